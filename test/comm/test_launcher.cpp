// Which of how many processes is this one: what each launcher's variables and the options say, alone, together, and wrongly.
#include "../../llmc/comm/launcher.h"
#include "../../llmc/comm/start_deadline.h"
#include "../../llmc/comm/visible_gpus.h"
#include <initializer_list>
#include "../test.h"

namespace {
// A child process with these variables of launchers and no others: where it finds itself, or the line that it died with.
struct Asked { int rank = -1, nproc = 1, gpus_per_node = 0; };
Outcome ask(const std::string& set, const Asked& o, const std::function<void(const Place&)>& then) {
    return run_child([&] {
        std::vector<std::string> theirs;
        for (char** at = environ; *at; at++)
            for (const char* start : {"OMPI_", "MV2_", "JSM_", "PMI_", "PMI2_", "PMIX_", "SLURM_", "MPI_LOCAL", "RANK=", "WORLD_SIZE=", "LOCAL_", "MASTER_", "TORCHELASTIC_", "LLMC_"})
                if (!strncmp(*at, start, strlen(start))) theirs.emplace_back(*at, strcspn(*at, "="));
        for (const std::string& name : theirs) unsetenv(name.c_str());
        for (size_t at = 0, end; at < set.size(); at = end + 1) {
            end = std::min(set.find(' ', at), set.size());
            const std::string one = set.substr(at, end - at);
            const size_t equals = one.find('=');
            setenv(one.substr(0, equals).c_str(), one.substr(equals + 1).c_str(), 1);
        }
        then(find_place(o.rank, o.nproc, o.gpus_per_node));
    });
}
std::string place(const std::string& set, const Asked& options = {}) {
    return ask(set, options, [](const Place& p) { printf("%d/%d %d/%d %s", p.rank, p.world, p.local_rank, p.local_world, p.by.c_str()); }).output;
}
// One line, exit code 2, and in it every one of these.
void refused(const std::string& set, std::initializer_list<const char*> says, const Asked& options = {}) {
    const Outcome o = ask(set, options, [](const Place& p) { printf("taken as rank %d of %d\n", p.rank, p.world); });
    bool all = o.code == 2 && o.output.find('\n') == o.output.size() - 1;
    for (const char* part : says) all = all && o.output.find(part) != std::string::npos;
    if (!all) FAIL("%s: exit code %d, said \"%s\", expected 2 and \"%s\"", set.c_str(), o.code, o.output.c_str(), *says.begin());
}
}  // namespace

TEST(place_of_each_launcher) {
    EXPECT_STR(place(""), "0/1 0/1 ");
    EXPECT_STR(place("OMPI_COMM_WORLD_RANK=11 OMPI_COMM_WORLD_SIZE=16 OMPI_COMM_WORLD_LOCAL_RANK=3 OMPI_COMM_WORLD_LOCAL_SIZE=8 PMIX_RANK=11"), "11/16 3/8 mpirun");
    EXPECT_STR(place("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1 OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=1"), "0/1 0/1 mpirun");
    EXPECT_STR(place("PMI_RANK=5 PMI_SIZE=6 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2"), "5/6 1/2 mpiexec");
    EXPECT_STR(place("RANK=9 WORLD_SIZE=12 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 MASTER_ADDR=h MASTER_PORT=1"), "9/12 1/4 torchrun");
    EXPECT_STR(place("SLURM_PROCID=9 SLURM_STEP_NUM_TASKS=12 SLURM_LOCALID=1 SLURM_NODEID=2 SLURM_STEP_TASKS_PER_NODE=4(x3)"), "9/12 1/4 srun");
    EXPECT_STR(place("SLURM_PROCID=9 SLURM_STEP_NUM_TASKS=12 SLURM_LOCALID=1 SLURM_NODEID=2 SLURM_STEP_TASKS_PER_NODE=4(x3) PMIX_RANK=9"), "9/12 1/4 srun");
    EXPECT_STR(place("LLMC_RANK=2 LLMC_WORLD=3 LLMC_LOCAL_RANK=2 LLMC_LOCAL_WORLD=3"), "2/3 2/3 spawned");
    // PMI by Slurm, which says where on the machine
    EXPECT_STR(place("PMI_RANK=3 PMI_SIZE=4 SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=1 SLURM_NODEID=1 SLURM_STEP_TASKS_PER_NODE=2(x2)"), "3/4 1/2 mpiexec");
    // nothing says what is on this machine
    EXPECT_STR(place("PMI_RANK=9 PMI_SIZE=12"), "9/12 1/4 mpiexec");
    EXPECT_STR(place("PMI_RANK=9 PMI_SIZE=12", {.gpus_per_node = 2}), "9/12 1/2 mpiexec");
    EXPECT_STR(place("RANK=1 WORLD_SIZE=2 LOCAL_RANK=1"), "1/2 1/2 torchrun");
}

// What is set, but says nothing of this process.
TEST(place_of_one_process) {
    EXPECT_STR(place("SLURM_NTASKS=8 SLURM_PROCID=0 SLURM_JOB_ID=7"), "0/1 0/1 ");  // a batch script's shell
    EXPECT_STR(place("SLURM_NTASKS=8 SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0"), "0/1 0/1 srun");
    EXPECT_STR(place("WORLD_SIZE=8"), "0/1 0/1 ");
    EXPECT_STR(place("RANK=3"), "0/1 0/1 ");
    EXPECT_STR(place("PMI_SIZE= PMI_RANK= OMPI_COMM_WORLD_SIZE="), "0/1 0/1 ");
    EXPECT_STR(place("OMPI_COMM_WORLD_SIZE=1"), "0/1 0/1 mpirun");
    EXPECT_STR(place("MV2_COMM_WORLD_RANK=11 MV2_COMM_WORLD_SIZE=16 MV2_COMM_WORLD_LOCAL_RANK=3 MV2_COMM_WORLD_LOCAL_SIZE=8"), "11/16 3/8 mpirun_rsh");
    EXPECT_STR(place("JSM_NAMESPACE_RANK=7 JSM_NAMESPACE_SIZE=12 JSM_NAMESPACE_LOCAL_RANK=1 JSM_NAMESPACE_LOCAL_SIZE=6 PMIX_RANK=7"), "7/12 1/6 jsrun");
    EXPECT_STR(place("", {.rank = 0}), "0/1 0/1 ");
    EXPECT_STR(place("", {.rank = 0, .nproc = 1, .gpus_per_node = 8}), "0/1 0/1 ");
}

// The launcher that started this process is the innermost one.
TEST(place_in_nested_launchers) {
    const std::string orted = " SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0 SLURM_NODEID=1 SLURM_STEP_TASKS_PER_NODE=1(x2)";
    EXPECT_STR(place("OMPI_COMM_WORLD_RANK=9 OMPI_COMM_WORLD_SIZE=16 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=8 PMIX_RANK=9" + orted), "9/16 1/8 mpirun");
    EXPECT_STR(place("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1" + orted), "0/1 0/1 mpirun");
    const std::string torchrun = "TORCHELASTIC_RUN_ID=none RANK=9 WORLD_SIZE=16 LOCAL_RANK=1 LOCAL_WORLD_SIZE=8";
    EXPECT_STR(place(torchrun + orted), "9/16 1/8 torchrun");
    EXPECT_STR(place(torchrun + orted + " PMI_RANK=1 PMI_SIZE=2 PMIX_RANK=1"), "9/16 1/8 torchrun");
    // a container platform's, and mpirun inside that container
    EXPECT_STR(place("RANK=1 WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_SIZE=4"), "3/4 3/4 mpirun");
    // ours: the options are the parent's, and so are the launcher's variables
    EXPECT_STR(place("LLMC_RANK=1 LLMC_WORLD=2 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1", {.rank = 0}), "1/2 1/2 spawned");
    refused("PMIX_RANK=3 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4", {"PMIX_RANK: 3", "SLURM_PROCID: 1"});
    refused("PMIX_RANK=3", {"PMIX_RANK: 3 set", "--nproc and --rank"});
}

TEST(place_by_options) {
    EXPECT_STR(place("", {.rank = 3, .nproc = 4}), "3/4 3/4 options");
    EXPECT_STR(place("", {.rank = 9, .nproc = 12}), "9/12 1/4 options");  // -pg is 8, as in llm.c
    EXPECT_STR(place("", {.rank = 9, .nproc = 12, .gpus_per_node = 4}), "9/12 1/4 options");
    EXPECT_STR(place("", {.rank = 11, .nproc = 12, .gpus_per_node = 5}), "11/12 1/2 options");  // the last machine has what is left
    // llm.c's scripts under srun: -pn $SLURM_NTASKS -pr $SLURM_PROCID -pg 8. What is on this machine Slurm knows better
    const std::string step = "SLURM_NTASKS=16 SLURM_STEP_NUM_TASKS=16 SLURM_PROCID=9 SLURM_LOCALID=1 SLURM_NODEID=2 SLURM_STEP_TASKS_PER_NODE=4(x4)";
    EXPECT_STR(place(step, {.rank = 9, .nproc = 16, .gpus_per_node = 8}), "9/16 1/4 options");
    EXPECT_STR(place(step, {.nproc = 16}), "9/16 1/4 srun");
    EXPECT_STR(place(step, {.rank = 9}), "9/16 1/4 srun");
    EXPECT_STR(place("SLURM_NTASKS=1 SLURM_STEP_NUM_TASKS=1 SLURM_PROCID=0", {.rank = 1, .nproc = 2}), "1/2 1/2 options");
    EXPECT_STR(place("PMIX_RANK=3", {.rank = 3, .nproc = 4}), "3/4 3/4 options");  // PMIx alone does not say of how many
    refused(step, {"--nproc: 8 given", "srun started 16"}, {.rank = 7, .nproc = 8});
    refused(step, {"--rank: 8 given", "rank 9 of 16"}, {.rank = 8, .nproc = 16});
    refused(step, {"--rank: 0 given", "rank 9 of 16"}, {.rank = 0});
    refused("", {"--rank: 4 given, must be below --nproc 4"}, {.rank = 4, .nproc = 4});
    refused("", {"--rank: 1 given, must be below --nproc 1"}, {.rank = 1});
    refused("", {"--nproc: 4 given, but not --rank"}, {.nproc = 4});
    refused("SLURM_NTASKS=4 SLURM_PROCID=0", {"--nproc: 4 given, but not --rank"}, {.nproc = 4});
    refused("", {"--nproc: 2000000 given, must be at most"}, {.rank = 0, .nproc = 2000000});
}

TEST(place_of_values_that_are_none) {
    for (const char* bad : {"x", "-1", "1x", "0x1", "1.5", "+1", "99999999999999999999", "4294967297"}) {
        refused(format("OMPI_COMM_WORLD_SIZE=%s OMPI_COMM_WORLD_RANK=0", bad), {"OMPI_COMM_WORLD_SIZE: '", bad});
        refused(format("SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=%s", bad), {"SLURM_PROCID: '", bad});
        refused(format("RANK=0 WORLD_SIZE=%s", bad), {"WORLD_SIZE: '", bad});
        refused(format("LLMC_RANK=0 LLMC_WORLD=1 LLMC_LOCAL_RANK=%s", bad), {"LLMC_LOCAL_RANK: '", bad});
    }
    refused("PMI_SIZE=0 PMI_RANK=0", {"PMI_SIZE: '0' set, must be a whole number from 1"});
    refused("PMI_SIZE=4 PMI_RANK=4", {"PMI_RANK: 4 set, must be below PMI_SIZE 4"});
    refused("RANK=2 WORLD_SIZE=2", {"RANK: 2 set, must be below WORLD_SIZE 2"});
    refused("PMI_SIZE=4", {"PMI_SIZE: 4 set, but not PMI_RANK"});
    refused("PMI_SIZE=4 PMI_RANK=3 MPI_LOCALRANKID=2 MPI_LOCALNRANKS=2", {"cannot be process 2 of 2"});
    refused("PMI_SIZE=4 PMI_RANK=3 MPI_LOCALRANKID=2 MPI_LOCALNRANKS=8", {"cannot be process 2 of 8"});
    for (const char* tasks : {"4(x2)", "x", "4(x2", "0(x4)", "4(y3)", ",4"})  // of node 2
        refused(format("SLURM_STEP_NUM_TASKS=12 SLURM_PROCID=9 SLURM_LOCALID=1 SLURM_NODEID=2 SLURM_STEP_TASKS_PER_NODE=%s", tasks), {"SLURM_STEP_TASKS_PER_NODE: '", tasks, "node 2"});
}

TEST(slurm_tasks_per_node) {
    using launcher_detail::slurm_tasks_on_node;
    const int expected[] = {2, 2, 2, 1, 16, 16};
    for (int node = 0; node < 6; node++) EXPECT_EQ(slurm_tasks_on_node("2(x3),1,16(x2)", node), expected[node]);
    EXPECT_EQ(slurm_tasks_on_node("2(x3),1,16(x2)", 6), -1);
    EXPECT_EQ(slurm_tasks_on_node("8", 0), 8);
    EXPECT_EQ(slurm_tasks_on_node("", 0), -1);
}

TEST(run_id_by_launcher) {
    const auto id = [](const std::string& set, const Asked& options = {}) { return ask(set, options, [](const Place& p) { printf("%s", run_id_of(p).c_str()); }).output; };
    const std::string step = "SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=1 SLURM_JOB_ID=77 SLURM_STEP_ID=3";
    EXPECT_STR(id(step), "slurm 77.3 restart 0");
    EXPECT_STR(id(step + " SLURM_RESTART_COUNT=2"), "slurm 77.3 restart 2");
    EXPECT_STR(id(step + " LLMC_RUN_ID=mine"), "mine");
    EXPECT_STR(id(step, {.rank = 1, .nproc = 2}), "");  // ranks by options may be steps, or jobs, of their own
    EXPECT_STR(id("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 PMIX_NAMESPACE=123"), "123");
    EXPECT_STR(id("TORCHELASTIC_RUN_ID=a RANK=0 WORLD_SIZE=2 TORCHELASTIC_RESTART_COUNT=1"), "torchrun a restart 1");
    EXPECT_STR(id("SLURM_JOB_ID=77"), "");
}

TEST(server_by_launcher) {
    const auto server = [](const std::string& set) { return ask(set, {}, [](const Place&) { printf("%s", server_of_launcher().c_str()); }).output; };
    EXPECT_STR(server(""), "");
    EXPECT_STR(server("MASTER_ADDR=node1"), "node1");
    EXPECT_STR(server("MASTER_ADDR=node1 MASTER_PORT=29500"), "node1:29500");
    EXPECT_STR(server("MASTER_ADDR=fe80::1 MASTER_PORT=29500"), "[fe80::1]:29500");
    EXPECT_STR(server("MASTER_ADDR=node1 MASTER_PORT=29500 TORCHELASTIC_RUN_ID=x"), "node1:29501");  // torchrun listens at 29500
    EXPECT_STR(server("MASTER_ADDR=node1 MASTER_PORT=65535 TORCHELASTIC_RUN_ID=x"), "node1:65534");
    for (const char* bad : {"0", "65536", "x"}) EXPECT(server(format("MASTER_ADDR=a MASTER_PORT=%s", bad)).find(format("MASTER_PORT: '%s' set", bad)) != std::string::npos);
}

TEST(srun_without_pmi) {
    const auto start = [](const std::string& set) { return ask("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 SLURM_LOCALID=1 SLURM_STEP_TASKS_PER_NODE=4 " + set, {}, refuse_srun_without_pmi); };
    EXPECT(start("").code == EXIT_USAGE && start("").output.find("srun: 4 processes, but nothing of PMI, by which MPI finds the others: srun --mpi=pmix") != std::string::npos);
    for (const char* set : {"PMIX_RANK=1", "PMI_RANK=1 PMI_SIZE=4", "PMI2_FD=7", "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4"}) EXPECT_EQ(start(set).code, 0);
}

// MPI's own start waits for all ranks without an end. Who is there in time is left alone.
TEST(mpi_that_does_not_start) {
    const auto start = [](int takes_ms, double limit) {
        return run_child([&] { { const StartDeadline deadline("MPI", limit); usleep((useconds_t)takes_ms * 1000); } usleep((useconds_t)(limit * 1e6) + 300'000); });
    };
    const Outcome late = start(30'000, 0.1);
    EXPECT_EQ(late.code, EXIT_COMM);
    EXPECT_STR(late.output, "error: MPI: not all ranks have come within 0.1 s: is one of them stopped, or has it never begun?\n");
    const Outcome there = start(20, 2);  // seconds: where others have the cores, 20 ms may take longer
    EXPECT_EQ(there.code, 0);
    EXPECT_STR(there.output, "");
}

TEST(mpi_with_another_world) {
    refuse_other_world({.rank = 1, .world = 2, .by = "mpirun"}, 1, 2);
    EXPECT_DIES("srun: this process is rank 1 of 4, but for MPI rank 0 of 1; srun --mpi=list", refuse_other_world({.rank = 1, .world = 4, .by = "srun"}, 0, 1));
    EXPECT_DIES("mpirun: this process is rank 1 of 4, but for MPI rank 2 of 4", refuse_other_world({.rank = 1, .world = 4, .by = "mpirun"}, 2, 4));
    EXPECT_DIES("no launcher: this process is rank 0 of 1, but for MPI rank 0 of 2", refuse_other_world({}, 0, 2));
}


// The real mpirun, where it is installed, starts this program, which then says where it finds itself before any test runs.
static bool g_says_place = [] {
    if (!getenv("LAUNCHER_TEST_SAYS_PLACE")) return false;
    const Place p = find_place(-1, 1, 0);
    printf("%d/%d %d/%d %s %s\n", p.rank, p.world, p.local_rank, p.local_world, p.by.c_str(), run_id_of(p).empty() ? "no id" : "id");
    fflush(stdout);
    _exit(0);
}();
TEST(place_under_mpirun) {
    const std::string mpirun = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout -s KILL 20 mpirun --oversubscribe -np ";
    if (run_command(mpirun + "1 true").code) SKIP("no mpirun that runs here");
    char self[4096] = "";
    EXPECT(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    const Outcome o = run_command("LAUNCHER_TEST_SAYS_PLACE=1 " + mpirun + "2 " + self + " | sort");
    EXPECT_STR(o.output, "0/2 0/2 mpirun id\n1/2 1/2 mpirun id\n");
}

TEST(visible_gpus_are_counted) {
    const std::string folder = "build/tmp/gpus";
    run_command("rm -rf " + folder + " && mkdir -p " + folder + "/0000:01:00.0 " + folder + "/0000:02:00.0");
    EXPECT(count_visible_gpus(nullptr, folder) == 2 && count_visible_gpus(nullptr, folder + "/none") == 0);
    EXPECT(count_visible_gpus("", folder) == 0 && count_visible_gpus("-1", folder) == 0 && count_visible_gpus("3", folder) == 1);
    EXPECT(count_visible_gpus("0,1,2,7", folder) == 4 && count_visible_gpus("0,1,-1,2", folder) == 2 && count_visible_gpus("GPU-8932f937,GPU-1", folder) == 2);
}
