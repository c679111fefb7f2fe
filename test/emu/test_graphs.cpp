// Graphs: updated by their like, launched one at a time, beside other streams.
#include "runtime_test.h"

TEST(graphs_are_updated_by_their_like) {
    quietly([] {
        Buffer<int> x(std::vector<int>(32, 0)), y(std::vector<int>(32, 0));
        int* pinned = nullptr;
        OK(cudaMallocHost(&pinned, 128));
        cudaStream_t s = new_stream(), side = new_stream();
        cudaEvent_t fork = new_event(), join = new_event();
        cudaGraphExec_t exec = executable(s, [&] { OK(run(one_more, 1, 32, 0, s, x.p)); OK(cudaMemcpyAsync(y.p, x.p, 128, cudaMemcpyDeviceToDevice, s)); });
        auto update = [&](cudaGraphExecUpdateResult expected, auto work) {
            cudaGraph_t graph = captured(s, work);
            cudaGraphExecUpdateResultInfo info = {};
            REFUSED(cudaGraphExecUpdate(exec, graph, &info), expected == cudaGraphExecUpdateSuccess ? cudaSuccess : cudaErrorGraphExecUpdateFailure);
            EXPECT_EQ(info.result, expected);
            OK(cudaGraphDestroy(graph));
        };
        update(cudaGraphExecUpdateSuccess, [&] { OK(run(twice, 1, 16, 0, s, x.p)); OK(cudaMemcpyAsync(y.p, x.p, 64, cudaMemcpyDeviceToDevice, s)); });
        update(cudaGraphExecUpdateErrorTopologyChanged, [&] { OK(run(twice, 1, 16, 0, s, x.p)); });
        update(cudaGraphExecUpdateErrorNodeTypeChanged, [&] { OK(run(twice, 1, 16, 0, s, x.p)); OK(cudaMemsetAsync(y.p, 0, 128, s)); });
        update(cudaGraphExecUpdateErrorParametersChanged, [&] { OK(run(twice, 1, 16, 0, s, x.p)); OK(cudaMemcpyAsync(pinned, x.p, 64, cudaMemcpyDeviceToHost, s)); });
        update(cudaGraphExecUpdateErrorTopologyChanged, [&] {  // side by side, no longer one after the other
            OK(cudaEventRecord(fork, s)); OK(cudaStreamWaitEvent(side, fork));
            OK(run(twice, 1, 16, 0, s, x.p)); OK(cudaMemcpyAsync(y.p, x.p, 64, cudaMemcpyDeviceToDevice, side));
            OK(cudaEventRecord(join, side)); OK(cudaStreamWaitEvent(s, join));
        });
        OK(cudaGraphExecDestroy(exec));
        REFUSED(cudaGraphLaunch(exec, s), cudaErrorInvalidValue); REFUSED(cudaGraphExecDestroy(exec), cudaErrorInvalidValue);
        cudaGraph_t none = nullptr;
        REFUSED(cudaGraphInstantiate(&exec, none), cudaErrorInvalidValue); REFUSED(cudaGraphDestroy(none), cudaErrorInvalidValue);
        REFUSED(cudaGraphLaunch(nullptr, s), cudaErrorInvalidValue);
    });
}
TEST(graphs_have_a_node_for_each_piece_of_work) {
    Buffer<int> x(std::vector<int>(32, 0));
    cudaStream_t s = new_stream();
    cudaEvent_t e = new_event();
    cudaGraph_t graph = captured(s, [&] { OK(run(one_more, 1, 32, 0, s, x.p)); OK(cudaEventRecord(e, s)); OK(run(twice, 1, 32, 0, s, x.p)); });
    size_t n = 0, room = 3;
    cudaGraphNode_t nodes[3];
    OK(cudaGraphGetNodes(graph, nullptr, &n)); EXPECT_EQ(n, 2u);  // an event is none
    OK(cudaGraphGetNodes(graph, nodes, &room)); EXPECT_EQ(room, 2u); EXPECT(nodes[0] && nodes[1] && !nodes[2]);
    OK(cudaGraphDestroy(graph)); OK(cudaStreamDestroy(s)); OK(cudaEventDestroy(e));
}
// One launch of a graph comes after the last one, also on other streams; other graphs and other streams' work may come between its nodes.
TEST(graphs_run_one_launch_at_a_time_beside_other_streams) {
    int between = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        emu::set_seed(seed);
        Buffer<int> x(std::vector<int>(32, 1)), y(std::vector<int>(32, 1));
        cudaStream_t s = new_stream(), other = new_stream();
        cudaGraphExec_t a = executable(s, [&] { OK(run(one_more, 1, 32, 0, s, x.p)); OK(run(twice, 1, 32, 0, s, x.p)); });
        OK(cudaGraphLaunch(a, s)); OK(cudaGraphLaunch(a, other));
        EXPECT_EQ(x.values()[0], 10);
        cudaGraphExec_t b = executable(s, [&] { OK(run(one_more, 1, 32, 0, s, y.p)); OK(run(one_more, 1, 32, 0, s, y.p)); });
        OK(cudaGraphLaunch(b, s)); OK(run(twice, 1, 32, 0, other, y.p));  // 6 or 4 if one comes before the other
        between += y.values()[0] == 5;
        OK(cudaGraphExecDestroy(a)); OK(cudaGraphExecDestroy(b)); OK(cudaStreamDestroy(s)); OK(cudaStreamDestroy(other));
    }
    EXPECT(between > 0);
}
TEST(graphs_need_their_memory) {
    cudaStream_t s = new_stream();
    int *device = nullptr, *pinned = nullptr;
    OK(cudaMalloc(&device, 128)); OK(cudaMallocHost(&pinned, 128));
    cudaGraphExec_t exec = executable(s, [&] { OK(cudaMemcpyAsync(device, pinned, 128, cudaMemcpyHostToDevice, s)); });
    OK(cudaGraphLaunch(exec, s)); OK(cudaStreamSynchronize(s));
    expect_found("pinned memory", "pinned memory was freed before", [&] { OK(cudaFreeHost(pinned)); OK(cudaGraphLaunch(exec, s)); });
    expect_found("device memory", "memory outside of every allocation", [&] { OK(cudaFree(device)); OK(cudaGraphLaunch(exec, s)); });
    OK(cudaGraphExecDestroy(exec)); OK(cudaFree(device)); OK(cudaFreeHost(pinned)); OK(cudaStreamDestroy(s));
}
