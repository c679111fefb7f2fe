# make            the CPU trainer and ./plot, with nothing but a C++ compiler
# make help       every target
# make V=1 ...    prints each command as it is; else a short line: CXX train_gpt2
Q        := $(if $(filter-out 0,$(V)),,@)
say       = $(if $Q,@echo "$(1) $@"; )
MAKEFLAGS += --no-print-directory

ifeq ($(origin CXX),default)
CXX      := $(firstword $(foreach c,g++ clang++ c++,$(shell command -v $(c) >/dev/null && echo $(c))))
endif
CLANG    := $(findstring clang,$(shell $(CXX) --version 2>/dev/null))
NATIVE   := $(shell echo 'int main(){}' | $(CXX) -march=native -x c++ - -o /dev/null 2>/dev/null && echo -march=native)
WARNINGS := -Wall -Wextra -Wshadow $(if $(CLANG),-Wno-pass-failed)
# g++ leaves out fused multiply-adds in loops where it tunes for Zen 2 or 3, and uses them elsewhere: two ways of one sum then differ
FMA      := $(if $(CLANG),,$(shell echo 'int main(){}' | $(CXX) --param avoid-fma-max-bits=0 -x c++ - -o /dev/null 2>/dev/null && echo --param avoid-fma-max-bits=0))
# g++: no garbage collection; passes of -O2 that take compile time and made no layer slower (dev/LOG.md, 6 and 16)
GARBAGE  := $(if $(CLANG),,-pipe --param ggc-min-heapsize=1000000)
QUICK    := $(if $(CLANG),,$(GARBAGE) $(addprefix -fno-, \
            tree-pre gcse tree-vrp thread-jumps ipa-cp ipa-sra ipa-icf ipa-vrp ipa-bit-cp))
LTO      := $(shell echo 'int main(){}' | $(CXX) -flto=2 -flto-compression-level=0 --param lto-partitions=4 -x c++ - -o /dev/null 2>/dev/null && \
            echo -flto=2 -flto-compression-level=0 --param lto-partitions=4)
# MPI=0 does without; where mpicxx is found, the CPU trainer can be started by mpirun. OpenMPI's and MPICH's tell what they would add in ways of their own
MPI      ?= 1
MPICXX   := $(if $(filter-out 0,$(MPI)),$(shell command -v mpicxx))
MPI_COMPILE := $(if $(MPICXX),$(shell mpicxx --showme:compile 2>/dev/null || mpicxx -compile_info 2>/dev/null | tr ' ' '\n' | grep '^-[ID]'))
MPI_LINK := $(if $(MPICXX),$(shell mpicxx --showme:link 2>/dev/null || mpicxx -link_info 2>/dev/null | tr ' ' '\n' | grep -E '^-([LlR]|Wl)'))
# if this compiler takes them, too
WITH_MPI := $(if $(MPI_LINK),$(shell echo 'int main(){return MPI_Init(0,0);}' | $(CXX) $(MPI_COMPILE) -include mpi.h -x c++ - -o /dev/null $(MPI_LINK) 2>/dev/null && echo 1))
MPI_FLAGS := $(if $(WITH_MPI),-DLLMC_MPI $(patsubst -I%,-isystem %,$(filter-out -pthread,$(MPI_COMPILE))))
MPI_LIBS := $(if $(WITH_MPI),$(MPI_LINK))
# no -ffast-math: NaN must stay NaN, and a sum must stay in its order
CXXFLAGS ?= -O2 $(NATIVE)
# hardening, against what an overrun that nobody has found could do; level 3 of _FORTIFY_SOURCE would cost (dev/LOG.md, 59). HARDEN= does without. A compiler that
# does not take all of it without a word gets each flag that it takes
HARDEN   := -fPIE -pie -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wl,-z,relro,-z,now -Wl,-z,noexecstack
takes     = $(shell printf '\043include <stdio.h>\nint main(){}' | $(CXX) $(filter-out --coverage,$(CXXFLAGS)) -Werror $(1) -x c++ - -o /dev/null 2>/dev/null && echo "$(1)")
HARDENED := $(or $(call takes,$(HARDEN)),$(foreach flag,$(HARDEN),$(call takes,$(flag))))
FLAGS    := -std=c++20 -fno-math-errno -fno-trapping-math -fno-exceptions -pthread $(WARNINGS) $(FMA) $(QUICK)
HOST     := $(wildcard llmc/*.h $(foreach folder,base layers io tokenizer data model comm train,llmc/$(folder)/*.h))
CPU      := $(HOST) $(wildcard llmc/cpu/*.h)

# B: where things are built; `make B=build/asan SANITIZE=...` is how test-asan gets its own
B        := build
SANITIZE :=
comma    := ,
# what UBSan asks of each access that ASan asks as well: left out where whole trainings run, which take three quarters of the time without (LOG 88); layers, parsers and files are asked
FEWER     = $(if $(SANITIZE),-fno-sanitize=null$(comma)object-size$(comma)pointer-overflow)
# files of tests that run at a time
JOBS     ?= $(shell nproc 2>/dev/null || echo 1)
# what traces the trainer knows the registers of x86-64 alone
TRACED   := $(if $(filter x86_64,$(shell uname -m)),faults)
# Files of tests that read and instantiate the same are compiled as one (dev/together.sh; LOG 56, 66): those of a folder, or what is listed here.
# By itself what takes malloc's place, and what has another main in it.
FOLDERS  := base cpu io tokenizer data comm train scripts $(TRACED) models
ALONE    := test/train/test_bounds.cpp test/data/test_stories.cpp
of_models   := $(wildcard test/model/*.cpp) test/train/test_eval.cpp
# the last file is the first to run: those that take longest, so that no process is left alone with one
LONGEST     := $(patsubst %,test/cuda/test_%.cu,embedding matmul attention_cudnn muon layernorm attention)
of_layers   := $(sort $(filter-out $(LONGEST),$(wildcard test/cuda/*.cu))) $(LONGEST)
of_trainer  := $(wildcard test/cuda/*.cpp)
of_emulator := $(wildcard test/emu/test_*.cpp)
files_of  = $(or $(of_$1),$(filter-out $(ALONE) $(of_models),$(wildcard test/$1/*.cpp)))
TESTS    := $(patsubst test/%.cpp,$(B)/test/%.o,test/main.cpp $(ALONE)) $(FOLDERS:%=$(B)/test/%_tests.o)

# side by side: of the trainer one core reads for most of the time
all:                                      ## the CPU trainer, and ./plot OUT, the page of a run (also plain `make`)
	$Q$(MAKE) $(if $(filter -j%,$(MAKEFLAGS)),,-j2) train_gpt2 plot

# one compiler reads, two generate code (dev/LOG.md, 21)
train_gpt2: train_gpt2.cu $(CPU)
	$(call say,CXX)$(CXX) $(FLAGS) $(CXXFLAGS) $(HARDENED) $(LTO) $(MPI_FLAGS) -x c++ $< -o $@ $(MPI_LIBS)

tokenize: dev/data/tokenize.cpp $(CPU)  ## texts to token shards, or to a tokenizer
	$(call say,CXX)$(CXX) $(FLAGS) $(CXXFLAGS) $(HARDENED) $< -o $@

plot: dev/plot.cpp $(wildcard dev/plot/*.h) $(HOST)  ## runs as a page: loss, norm, throughput, samples, options
	$(call say,CXX)$(CXX) $(FLAGS) -O1 $< -o $@

# --- tests -----------------------------------------------------------------------------------------------------------
test: train_gpt2 tokenize build/train_gpt2_single.cpp $(B)/stories $(B)/bench_steps $(B)/tests  ## every test on this machine; the last line counts them
	$(call say,TEST)$(B)/tests --jobs $(JOBS)
	$(if $(TRACED),,@echo "skipped: test/faults, which needs x86-64")

test-deaths: train_gpt2 $(B)/tests        ## 200 ranks killed, stopped, misled or without disk at random moments: all end in time, and a restart has the same bits
	$(call say,TEST)DEATHS=200 $(B)/tests deaths_at_random_moments

test-slurm: train_gpt2 tokenize           ## a cluster of two nodes by a real Slurm on this machine, and jobs as users submit them; needs root, slurm-wlm and munge
	$Q$(MAKE) LOOK=plain build/emu-plain/train_gpt2cu
	$(call say,TEST)test/scripts/slurm.sh

test-kill: train_gpt2 $(B)/tests          ## 200 kills of the trainer at its calls on files and at random moments: resumed, all end with the same bits; KILLS=10000, from FROM=0 on
	$(call say,TEST)KILLS=$(or $(KILLS),200) $(B)/tests kills_at

test-power: train_gpt2 $(B)/tests         ## 100,000 states of a disk after a power cut, by two models; no sync without need
	$(call say,TEST)STATES=$(or $(STATES),100000) RESUMES=$(or $(RESUMES),2000) $(B)/tests power_cuts

test-faults: train_gpt2 $(B)/tests        ## each call on files fails in seven ways; disks that are full; FAULTS=1000 FROM=2000: a part
	$(call say,TEST)FAULTS=$(or $(FAULTS),100000) $(B)/tests calls_that_fail && FAULTS=1 $(B)/tests disk_that_is_full

soak: train_gpt2 $(B)/tests               ## HOURS=1 of a run to which one of 21 things happens every 10 s, then the run to which nothing does: equal bits
	$(call say,TEST)HOURS=$(or $(HOURS),1) $(B)/tests test_soak

test-lab: train_gpt2 $(B)/stories         ## dev/lab: e-values, curves, verdicts, what is kept and what is seen
	$(call say,TEST)if command -v python3 > /dev/null; then python3 test/lab/run.py --jobs $(JOBS); else echo "test-lab: skipped: no python3"; fi

lab-null:                                 ## 1,000 sessions of experiments of which none changes anything: how often does one win? Then planted effects
	$(call say,TEST)python3 test/lab/null_sessions.py

lab-whole: train_gpt2 $(B)/stories        ## 20 sessions of 4 tries of which none changes anything, through lab try itself, beside the same drawn from the bank
	$(call say,TEST)python3 test/lab/whole_sessions.py

test-bits: $(B)/damage                    ## every bit of a checkpoint, and 100,000 flips, cuts and swaps: all are noticed
	$(call say,TEST)BITS=100000 $(B)/damage

$(B)/damage: $(B)/test/io/test_damage.o $(B)/test/main.o
	$(call say,CXX)$(CXX) $(FLAGS) $^ -o $@

# libFuzzer is clang's. SECONDS: of all parsers together; PARSERS: only these
FUZZER   := $(firstword $(foreach c,clang++ $(foreach v,20 19 18 17 16 15 14,clang++-$v),$(shell command -v $c >/dev/null && echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' | $c -fsanitize=fuzzer -x c++ - -o /dev/null 2>/dev/null && echo $c)))
SECONDS  := 60
fuzz: $(if $(FUZZER),build/fuzz/fuzz)     ## every parser of files under libFuzzer, ASan and UBSan, with bounds of memory and time; SECONDS=60 of all together
	$(call say,TEST)$(if $(FUZZER),test/fuzz/run.sh $(SECONDS) $(PARSERS),echo "fuzz: skipped: no clang++ with libFuzzer found")
build/fuzz/fuzz: test/fuzz/fuzz.cpp $(CPU)
	@mkdir -p $(@D)
	$(call say,CXX)$(FUZZER) -std=c++20 -O1 -g1 $(NATIVE) -pthread -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $< -o $@

# lines of parsers and I/O that their tests run, those of children that die among them (test/coverage.cpp); not of those that are killed while they write them down
COVERED  := $(wildcard llmc/io/*.h) $(filter-out %_table.h,$(wildcard llmc/data/*.h llmc/tokenizer/*.h)) llmc/train/eval_sets.h llmc/model/bin_model.h llmc/model/config.h llmc/model/config_json.h llmc/model/config_names.h
COVERING := $(patsubst test/%.cpp,build/coverage/test/%.o,test/main.cpp test/coverage.cpp $(filter-out %_deaths.cpp,$(wildcard test/io/*.cpp)) $(wildcard test/tokenizer/*.cpp) $(patsubst %,test/data/test_%.cpp,data shards text tokenize) $(patsubst %,test/train/test_%.cpp,bad_files eval) test/model/test_config.cpp test/model/test_config_names.cpp)
coverage: train_gpt2 tokenize $(B)/stories ## which lines of parsers and I/O their tests run; at least 95 %
	@command -v gcov >/dev/null && [ -z "$(CLANG)" ] || { echo "coverage: skipped: it needs g++ and gcov"; exit 0; }; \
	$(MAKE) B=build/coverage CXXFLAGS="-O0 --coverage" NATIVE= coverage-tests && find build/coverage -name '*.gcda' -delete && \
	build/coverage/covering --jobs $(JOBS) && dev/coverage.sh build/coverage 95 $(COVERED)
coverage-tests: build/coverage/covering
build/coverage/covering: $(COVERING)
	$(call say,CXX)$(CXX) $(FLAGS) --coverage $^ -o $@

test-asan:                                ## the same tests under AddressSanitizer and UBSan
	$Q$(MAKE) B=build/asan SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all -g1 -O1" \
	    build/train_gpt2_single.cpp build/asan/stories build/asan/bench_steps build/asan/train_gpt2 build/asan/tokenize build/asan/tests
	$(call say,TEST)build/asan/tests --jobs $(JOBS)

# tests of errors fork, with threads alive
test-race:                                ## the tests of layers, threads and data under ThreadSanitizer
	@mkdir -p build/race build/tmp
	$(call say,CXX)$(CXX) -std=c++20 -O1 -g $(NATIVE) -fsanitize=thread -pthread test/main.cpp $(wildcard test/base/test_*.cpp test/cpu/test_*.cpp) $(patsubst %,test/data/test_%.cpp,data shards text) -o build/race/tests
	$(call say,TEST)TSAN_OPTIONS="halt_on_error=1 die_after_fork=0" build/race/tests

$(B)/tests: $(TESTS)
	$(call say,CXX)$(CXX) $(FLAGS) $(SANITIZE) $^ -o $@

TEST_HEADERS := $(wildcard test/*.h $(foreach folder,comm data faults io tokenizer train,test/$(folder)/*.h) dev/data/* dev/plot/* dev/sass.h) $(CPU) train_gpt2.cu
TEST_COMPILE  = $(CXX) $(FLAGS) $(CXXFLAGS) $(SANITIZE) $(if $(filter train_tests comm_tests scripts_tests faults_tests models_tests,$(basename $(@F))),$(FEWER)) -I. -DTRAINER='"$(if $(SANITIZE),$(B),.)/train_gpt2"' -DTOKENIZE_PROGRAM='"$(if $(SANITIZE),$(B),.)/tokenize"' -DBUILD='"$(B)"' -DCOMPILER='"$(CXX)"' -c $< -o $@
$(B)/test/%.o: test/%.cpp $(TEST_HEADERS)
	@mkdir -p $(@D) build/tmp
	$(call say,CXX)$(TEST_COMPILE)
$(B)/test/%_tests.o: $(B)/test/%_tests.cpp $(TEST_HEADERS)
	$(call say,CXX)$(TEST_COMPILE)
.PRECIOUS: build/%_tests.cpp
.SECONDEXPANSION:
build/%_tests.cpp: $$(call files_of,$$(notdir $$*)) $(wildcard test/*/*_test.h) dev/together.sh
	@mkdir -p $(@D) build/tmp
	$(call say,CAT)dev/together.sh $(call files_of,$(notdir $*)) > $@.new && mv $@.new $@

build/asan/train_gpt2: train_gpt2.cu $(CPU)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(FLAGS) $(CXXFLAGS) $(SANITIZE) $(FEWER) $(MPI_FLAGS) -x c++ $< -o $@ $(MPI_LIBS)

build/asan/tokenize: dev/data/tokenize.cpp $(CPU)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(FLAGS) $(CXXFLAGS) $(SANITIZE) $(FEWER) $< -o $@

$(B)/stories: dev/data/stories.cpp $(HOST) $(wildcard dev/data/*.h)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(FLAGS) -O2 $(SANITIZE) $< -o $@

# --- CUDA ------------------------------------------------------------------------------------------------------------
NVCC     ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA     := $(HOST) $(wildcard llmc/cuda/*)
# ARCH: the GPUs at hand (nvidia-smi prints a sentence where there are none), else every one that the project knows and this toolkit too
KNOWN    := 80 86 89 90 100 120
ARCH     ?= $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -xE '[0-9]+\.[0-9]+' | tr -d . | sort -nu)
GENCODE   = $(if $(NVCC),$(shell $(NVCC) --list-gpu-arch | awk -v gpus="$(or $(strip $(ARCH)),$(KNOWN))" -v ours="$(KNOWN)" -f dev/gencode.awk))
# host code as for the CPU trainer; HOST_O=-O0 where it is only to compile and link
HOST_O   ?= -O3
NVFLAGS   = -std=c++20 $(HOST_O) --expt-relaxed-constexpr --threads 0 -Xcompiler -Wall,-Wno-parentheses,-fno-math-errno,-fno-trapping-math,-pthread $(CUDNN_FLAGS) $(NCCL_FLAGS) $(MPI_FLAGS)
# where a toolkit in pieces (that of the Python packages, say) keeps its headers and libraries
CUDA_INCLUDE ?=
CUDA_LIB     ?=
# cuDNN, where header and library are found; of 9.8 or newer, whose names attention_graph.h uses; CUDNN=0 does without
CUDNN        ?= 1
TOOLKIT       = $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDNN_HEADERS = $(wildcard $(addsuffix /cudnn_graph.h,$(CUDA_INCLUDE) $(TOOLKIT)/include /usr/local/include /usr/include))
CUDNN_HEADER := $(if $(CUDNN_HEADERS),$(shell grep -l CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR $(firstword $(CUDNN_HEADERS))))
CUDNN_LIBRARY = $(firstword $(wildcard $(foreach l,$(CUDA_LIB) $(TOOLKIT)/lib64 $(TOOLKIT)/lib /usr/local/lib $(wildcard /usr/lib/*-linux-gnu),$l/libcudnn.so $l/libcudnn.so.9)))
WITH_CUDNN    = $(and $(filter-out 0,$(CUDNN)),$(CUDNN_HEADER),$(CUDNN_LIBRARY))
CUDNN_FLAGS   = $(if $(WITH_CUDNN),-DLLMC_CUDNN $(filter-out -I/usr/include,-I$(patsubst %/,%,$(dir $(CUDNN_HEADER)))))
CUDNN_LINK    = $(if $(WITH_CUDNN),-Xlinker=$(CUDNN_LIBRARY) -Xlinker -rpath=$(patsubst %/,%,$(dir $(CUDNN_LIBRARY))))
# NCCL, where header and library are found; of 2.18 or newer, whose communicators split; NCCL=0 does without: one GPU a run
NCCL         ?= 1
NCCL_HEADERS  = $(wildcard $(addsuffix /nccl.h,$(CUDA_INCLUDE) $(TOOLKIT)/include /usr/local/include /usr/include))
NCCL_HEADER  := $(if $(NCCL_HEADERS),$(shell grep -l ncclCommSplit $(firstword $(NCCL_HEADERS))))
NCCL_LIBRARY  = $(firstword $(wildcard $(foreach l,$(CUDA_LIB) $(TOOLKIT)/lib64 $(TOOLKIT)/lib /usr/local/lib $(wildcard /usr/lib/*-linux-gnu),$l/libnccl.so $l/libnccl.so.2)))
WITH_NCCL     = $(and $(filter-out 0,$(NCCL)),$(NCCL_HEADER),$(NCCL_LIBRARY))
NCCL_FLAGS    = $(if $(WITH_NCCL),-DLLMC_NCCL $(filter-out -I/usr/include,-I$(patsubst %/,%,$(dir $(NCCL_HEADER)))))
NCCL_LINK     = $(if $(WITH_NCCL),-Xlinker=$(NCCL_LIBRARY) -Xlinker -rpath=$(patsubst %/,%,$(dir $(NCCL_LIBRARY))))
CUBLASLT      = $(or $(addprefix -Xlinker=,$(firstword $(wildcard $(addsuffix /libcublasLt.so*,$(CUDA_LIB))))),-lcublasLt)
# the toolkit's own folder too: the loader does not know it where ld.so.conf does not name it
TOOLKIT_LIB   = $(patsubst %/,%,$(dir $(firstword $(wildcard $(foreach l,lib64 lib targets/*/lib,$(TOOLKIT)/$l/libcublasLt.so*)))))
NVLIBS        = $(addprefix -I,$(CUDA_INCLUDE)) $(foreach l,$(CUDA_LIB),-L$l -Xlinker -rpath=$l) $(addprefix -Xlinker -rpath=,$(TOOLKIT_LIB)) $(CUBLASLT) $(CUDNN_LINK) $(NCCL_LINK) $(foreach flag,$(MPI_LIBS),$(if $(filter -Wl%,$(flag)),-Xlinker $(patsubst -Wl$(comma)%,%,$(flag)),$(flag)))

# its host code, hardened as the CPU trainer is: nvcc cuts what is behind -Xcompiler at commas
NVHARDENED = $(foreach flag,$(HARDENED),$(if $(filter -Wl%,$(flag)),-Xlinker $(subst $(comma), -Xlinker ,$(patsubst -Wl$(comma)%,%,$(flag))),-Xcompiler $(flag)))
train_gpt2cu: train_gpt2.cu $(CUDA)       ## the CUDA trainer: needs nvcc; ARCH=90 builds for one architecture
	@[ -n "$(NVCC)" ] || { echo "train_gpt2cu: no nvcc found: install the CUDA toolkit 12.4 or newer, or make NVCC=/path/to/nvcc"; exit 1; }
	$(call say,NVCC)$(NVCC) $(NVFLAGS) $(NVHARDENED) $(GENCODE) $< -o $@ $(NVLIBS)

# every kernel of every architecture in turn: no warning, no spilled register
test-nvcc: build/sass                     ## compiles the kernels for sm_80, sm_90 and sm_100 and looks at what the compiler says, and at their machine code; the exercises', too
	$(call say,TEST)dev/nvcc_check.sh "$(NVCC)" "$(NVFLAGS)" 80 90 100
	$(call say,NVCC)$(if $(NVCC),for file in $$(grep -l __global__ dev/learn/*/*.cu); do NVCC="$(NVCC)" dev/learn/learn.sh --gpu $$(basename $$(dirname $$file)) $$file || exit 1; done)
build/sass: dev/sass.cpp dev/sass.h llmc/base/check.h
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) -std=c++20 -O1 $(WARNINGS) $< -o $@

# plans of attention by the real cuDNN, for GPUs that are not here; where no driver is either, driver.c stands in for it
test-cudnn: $(if $(WITH_CUDNN),build/cudnn/plans build/cudnn/libcuda.so.1)  ## whether the cuDNN that is installed takes attention's graphs, for GPUs that need not be here
	$(call say,TEST)$(if $(WITH_CUDNN),LD_LIBRARY_PATH=build/cudnn:$(subst $() ,:,$(CUDA_LIB)):$$LD_LIBRARY_PATH build/cudnn/plans,echo "test-cudnn: skipped: no cuDNN 9.8 or newer found (cudnn_graph.h and libcudnn.so)")
CUDART = $(firstword $(wildcard $(foreach l,$(CUDA_LIB) $(TOOLKIT)/lib64 $(TOOLKIT)/lib /usr/local/lib $(wildcard /usr/lib/*-linux-gnu),$l/libcudart.so $l/libcudart.so.1*)))
build/cudnn/plans: test/cudnn/plans.cpp $(wildcard test/cudnn/*.h) llmc/cuda/attention_graph.h $(HOST)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) -std=c++20 -O1 $(WARNINGS) $< $(CUDNN_FLAGS) $(addprefix -I,$(CUDA_INCLUDE) $(TOOLKIT)/include) $(CUDNN_LIBRARY) $(CUDART) -ldl -Wl,--disable-new-dtags $(patsubst %,-Wl$(comma)-rpath=%,$(dir $(CUDNN_LIBRARY) $(CUDART))) -o $@
# the same by the stand-in, for what runs on a GPU: build/emu-plain/plans --here
build/emu-plain/plans: test/cudnn/plans.cpp $(wildcard test/cudnn/*.h) $(CUDA) $(EMULATOR)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) -O2 $< -ldl -o $@
build/cudnn/libcuda.so.1: test/cudnn/driver.c
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) -x c -shared -fPIC -w $< -o $@

# each product of training, and each that the emulated trainer makes, as the cuBLASLt that is installed judges the call's arguments.
# MUST=1: that there is none, or one that does not answer without a GPU, is a failure
CUBLASLT_REAL = $(firstword $(wildcard $(addsuffix /libcublasLt.so*,$(CUDA_LIB) $(TOOLKIT_LIB))))
test-cublaslt: emu-plain                  ## whether the cuBLASLt that is installed takes the trainer's products; needs no GPU; ARGS=--all: Llama's and GPT-3's too
	$Q$(MAKE) LOOK=plain build/emu-plain/products
	@skip() { echo "test-cublaslt: skipped: $$1"; exit $(or $(MUST),0); }; \
	[ -n "$(CUBLASLT_REAL)" ] || skip "no libcublasLt.so found"; \
	export EMU_CUBLASLT=$(CUBLASLT_REAL); build/emu-plain/products $(ARGS); \
	case $$? in 0) build/emu-plain/tests cublaslt ;; 77) skip "$(CUBLASLT_REAL) looks at the device first" ;; *) exit 1 ;; esac
build/gpu/products: test/cublaslt/products.cu $(CUDA)
	@mkdir -p $(@D)
	$(call say,NVCC)$(NVCC) $(NVFLAGS) $(GENCODE) -x cu $< -o $@ $(NVLIBS)

# the stand-in for NCCL beside the NCCL that is installed, in what that answers without a GPU
test-nccl: emu-plain                      ## whether the stand-in for NCCL answers as the NCCL that is installed, where that needs no GPU
	$(call say,TEST)$(if $(NCCL_LIBRARY),EMU_NCCL_LIBRARY=$(NCCL_LIBRARY) $(E)/tests nccl_as_the_library,echo "test-nccl: skipped: no libnccl.so found")

# the layers' tests and the trainer's on the GPU at hand, against the CPU backend; nvcc reads its vectors: 68, 1675 are what it
# says of them and of GCC's pragmas
GPU_FLAGS = $(NVFLAGS) $(GENCODE) -diag-suppress 68,1675 $(addprefix -Xcompiler ,$(NATIVE))
GPU_TESTS := build/gpu/main.cpp.o build/gpu/trainer_tests.o build/gpu/layers_tests.o
test-gpu: train_gpt2 train_gpt2cu build/gpu/tests  ## the tests of the CUDA trainer and its kernels on a GPU
	$(call say,TEST)build/gpu/tests
build/gpu/tests: $(GPU_TESTS)
	$(call say,NVCC)$(NVCC) $(GPU_FLAGS) $^ -o $@ $(NVLIBS)
GPU_COMPILE = $(NVCC) $(GPU_FLAGS) -I. $(addprefix -I,$(CUDA_INCLUDE)) -DTRAINER='"./train_gpt2"' -DCUDA_TRAINER='"./train_gpt2cu"' -DBUILD='"build/gpu"' -x cu -c $< -o $@
build/gpu/%.o: test/% $(wildcard test/*.h test/cuda/*.h) $(CUDA) $(CPU)
	@mkdir -p $(@D) build/gpu/tmp
	$(call say,NVCC)$(GPU_COMPILE)
build/gpu/%_tests.o: build/gpu/%_tests.cpp $(wildcard test/*.h test/cuda/*.h) $(CUDA) $(CPU)
	@mkdir -p $(@D)/tmp
	$(call say,NVCC)$(GPU_COMPILE)
build/gpu/bench_layers: dev/bench/layers.cpp $(wildcard dev/bench/*.h) $(CUDA)
	@mkdir -p $(@D)
	$(call say,NVCC)$(NVCC) $(NVFLAGS) $(GENCODE) -x cu $< -o $@ $(NVLIBS)

gpu-programs: train_gpt2 train_gpt2cu build/gpu/tests build/gpu/products build/gpu/bench_layers build/stories build/bench_steps $(if $(WITH_CUDNN),build/cudnn/plans)  ## what BUILT=1 scripts/gpu_check.sh runs on a machine without compilers
	$(call say,NVCC)for file in $$(grep -l __global__ dev/learn/*/solution.cu); do NVCC="$(NVCC)" dev/learn/learn.sh --gpu $$(basename $$(dirname $$file)) $$file || exit 1; done

# CUDA on a CPU (test/emu). LOOK is how its code is looked at: not at all, by AddressSanitizer and UBSan, or every access by the
# emulator: compiled with -fsanitize=thread and linked without it, test/emu/watch.cpp takes the calls. EMU_ONLY: one file of tests
LOOK        := plain
E           := build/emu-$(LOOK)
LOOK_plain  := -O2
# without the three checks of UBSan's that ask of each access what ASan asks of it: half of the trainer's compile time (dev/LOG.md, 46)
LOOK_asan   := -O1 -g1 -fsanitize=address,undefined -fno-sanitize=null,object-size,pointer-overflow -fno-sanitize-recover=all
LOOK_watch  := -O1 -fsanitize=thread
EMU_FLAGS   := -std=c++20 -DLLMC_CUDNN -DLLMC_NCCL -pthread $(WARNINGS) -Wno-unknown-pragmas $(NATIVE) -fno-exceptions -rdynamic -Itest/emu $(GARBAGE)
# kernels.o: the layers' tests with the trainer, which has the same kernels, in front of them: most of what a compiler does is done for both
EMU_OBJECTS := $(if $(EMU_ONLY),$(E)/cuda/$(EMU_ONLY).o,$(patsubst %,$(E)/%.o,kernels emulator_tests trainer_tests)) $(E)/main.cpp.o
EMU_LINK     = $(CXX) $(EMU_FLAGS) $(filter-out -fsanitize=thread,$(LOOK_$(LOOK))) $^ -o $@
EMULATOR    := $(wildcard test/emu/*.h)

# An overrun is one in any order of threads, and so is a race where every access is looked at: two orders there
test-emu: test-emu-plain test-emu-asan test-emu-watch  ## every kernel and the CUDA trainer on a CPU: plain, under ASan and UBSan, and with every access watched; SCHEDULES=20 orders of threads
test-emu-%: emu-%
	$(call say,TEST)$(if $(SCHEDULES),EMU_SCHEDULES=$(SCHEDULES),$(if $(filter plain,$*),,EMU_SCHEDULES=2)) ASAN_OPTIONS=detect_leaks=0 build/emu-$*/tests --jobs $(JOBS)  # LeakSanitizer knows no fibers' stacks

# Once, whoever asks for it: two of them at a time would compile the same.
LOOKS := plain asan watch
$(LOOKS:%=emu-%): emu-%: train_gpt2
	$Q$(MAKE) LOOK=$* emu-build
emu: $(LOOKS:%=emu-%)                     ## compiles what test-emu runs

test-worlds: train_gpt2                   ## 1, 2, 3, 4 and 8 emulated GPUs with every ZeRO stage, recompute level, precision and length of a leaf: the bits of one
	$Q$(MAKE) LOOK=plain build/emu-plain/train_gpt2cu build/emu-plain/tests
	$(call say,TEST)WORLDS=all build/emu-plain/tests gpus_of_every_world

# What nvcc makes of the kernels, as PTX, in the place of what the C++ compiler makes of them: the same tests, executed by test/ptx on the emulator
PTX_FLAGS    = $(NVFLAGS) -diag-suppress 68,1675 -ptx -x cu -I. $(addprefix -I,$(CUDA_INCLUDE)) -DTRAINER='""' -DCUDA_TRAINER='""' -DBUILD='""'
PTX_OBJECTS := build/emu-plain/kernels.o build/emu-plain/main.cpp.o build/ptx/test_training.o
test-ptx: emu-plain                       ## nvcc's code of every kernel, for sm_80 and sm_90, executed on a CPU by the layers' and the trainer's tests
	@$(if $(NVCC),,echo "test-ptx: skipped: no nvcc found"; exit 0;) \
	$(MAKE) LOOK=plain build/ptx/tests build/ptx/test_interpreter build/ptx/80.ptx build/ptx/90.ptx && \
	EMU_PTX=build/ptx/80.ptx:build/ptx/90.ptx build/ptx/test_interpreter && \
	for code in build/ptx/80.ptx build/ptx/90.ptx; do \
	    echo "TEST $$code"; \
	    EMU_SCHEDULES=2 EMU_CODE=build/ptx/interpreter.so EMU_PTX=$$code build/ptx/tests --jobs $(JOBS) $(ARGS) || exit 1; \
	done
# minutes of CPU: losses, bits, texts and sizes of the emulated trainer
test-ptx-train: train_gpt2                ## test_train, all of it, by nvcc's code of the trainer for sm_80 and sm_90
	@$(if $(NVCC),,echo "test-ptx-train: skipped: no nvcc found"; exit 0;) \
	$(MAKE) LOOK=plain build/emu-plain/train_gpt2cu build/emu-plain/tests build/ptx/interpreter.so build/ptx/80.ptx build/ptx/90.ptx && \
	for arch in 80 90; do \
	    echo "TEST sm_$$arch"; \
	    EMU_CODE=$$PWD/build/ptx/interpreter.so EMU_PTX=$$PWD/build/ptx/$$arch.ptx build/emu-plain/tests $(or $(ARGS),test_train.) || exit 1; \
	done
build/ptx/tests: $(PTX_OBJECTS) build/ptx/interpreter.so
	$(call say,CXX)$(CXX) $(EMU_FLAGS) $(PTX_OBJECTS) -o $@
build/ptx/test_training.o: test/ptx/test_training.cpp $(wildcard test/*.h test/cuda/*.h) $(HOST)
	@mkdir -p $(@D)/tmp
	$(call say,CXX)$(CXX) $(EMU_FLAGS) -O1 -DTRAINER='"./train_gpt2"' -DCUDA_TRAINER='"build/emu-plain/train_gpt2cu"' -DBUILD='"build/ptx"' -c $< -o $@
build/ptx/interpreter.so: test/ptx/interpreter.cpp $(wildcard test/ptx/*.h) $(EMULATOR)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) -O2 -shared -fPIC $< -o $@
build/ptx/test_interpreter: test/ptx/test_interpreter.cpp test/main.cpp $(wildcard test/*.h test/ptx/*.h) $(HOST) $(EMULATOR)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) -O1 test/ptx/test_interpreter.cpp test/main.cpp -o $@
build/ptx/%.ptx: build/emu-plain/kernels.cpp train_gpt2.cu $(wildcard test/*.h test/cuda/*.h) $(CUDA)
	@mkdir -p $(@D)
	$(call say,NVCC)$(NVCC) $(PTX_FLAGS) -arch=sm_$* $< -o $@

# as long as a coffee: each mistake is compiled and run
test-mutants: build/mutants               ## mutation testing of the kernels: at least 90 % of the mutants must make a test fail
	$(call say,TEST)build/mutants
build/mutants: test/mutants/mutants.cpp test/test.h $(HOST)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(FLAGS) -O1 $< -o $@

# kernels.o takes longest: first. Of `make bench-emu`, which takes minutes, the compiler reads the source (8 s), as nothing else would say that it is wrong.
# One file of layers' tests needs no trainer
emu-build: $(if $(filter-out test_train%,$(EMU_ONLY)),,$(E)/train_gpt2cu) $(E)/tests $(if $(filter plain,$(LOOK)),$(if $(EMU_ONLY),,$(E)/bench_emulated.read))
$(E)/bench_emulated.read: dev/bench/emulated.cpp $(wildcard dev/bench/*.h) train_gpt2.cu $(CUDA) $(EMULATOR)
	@mkdir -p $(@D)
	$(call say,READ)$(CXX) $(EMU_FLAGS) -fsyntax-only $< && touch $@
$(E)/tests: $(EMU_OBJECTS) $(if $(filter watch,$(LOOK)),$(E)/watch.o)
	$(call say,CXX)$(EMU_LINK)
$(E)/train_gpt2cu: $(E)/kernels.o $(E)/emu/trainer_main.cpp.o $(if $(filter watch,$(LOOK)),$(E)/watch.o)
	$(call say,CXX)$(EMU_LINK)
$(E)/watch.o: test/emu/watch.cpp $(EMULATOR)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) -O2 -c $< -o $@
EMU_COMPILE  = $(CXX) $(EMU_FLAGS) -I. $(LOOK_$(LOOK)) -DTRAINER='"./train_gpt2"' -DCUDA_TRAINER='"$(E)/train_gpt2cu"' -DBUILD='"$(E)"' -DCOMPILER='"$(CXX)"' -x c++ -c $< -o $@
$(E)/%.o: test/% $(wildcard test/*.h test/cuda/*.h) $(CUDA) $(CPU) $(EMULATOR)
	@mkdir -p $(@D) $(E)/tmp
	$(call say,CXX)$(EMU_COMPILE)
$(E)/kernels.o: $(E)/kernels.cpp train_gpt2.cu $(wildcard test/*.h test/cuda/*.h) $(CUDA) $(CPU) $(EMULATOR)
	@mkdir -p $(E)/tmp
	$(call say,CXX)$(EMU_COMPILE)
$(E)/kernels.cpp: $(of_layers) $(wildcard test/*/*_test.h) dev/together.sh
	@mkdir -p $(@D)
	$(call say,CAT){ printf '#define main trainer_main\n#include "train_gpt2.cu"\n#undef main\n' && dev/together.sh $(of_layers); } > $@.new && mv $@.new $@
$(E)/%_tests.o: $(E)/%_tests.cpp $(wildcard test/*.h test/cuda/*.h) $(CUDA) $(CPU) $(EMULATOR)
	@mkdir -p $(@D)/tmp
	$(call say,CXX)$(EMU_COMPILE)
$(E)/products: test/cublaslt/products.cu $(CUDA) $(EMULATOR)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) $(LOOK_$(LOOK)) -x c++ $< -o $@

# --- benchmarks ------------------------------------------------------------------------------------------------------
bench: train_gpt2 $(B)/bench_layers $(B)/bench_steps  ## each layer against the ceilings of this machine, and whole steps; into dev/bench/results
	dev/bench/run.sh

# ARGS=--short and others: dev/bench/gpu.py --help. DRY=1: the emulated trainer and PyTorch on the CPU
bench-gpu: $(if $(filter-out 0,$(DRY)),build/emu-plain/train_gpt2cu,train_gpt2cu build/gpu/bench_layers)  ## ours and PyTorch's in turn on a GPU, then each kernel; into dev/bench/results
	$(if $(filter-out 0,$(DRY)),python3 dev/bench/test_gpu.py -q)
	DRY=$(DRY) python3 dev/bench/gpu.py $(ARGS)

# every access of the emulated trainer counted; with nvcc also what it says of each kernel
bench-emu: build/emu-watch/bench_emulated build/nvcc/kernels.txt  ## without a GPU: bytes that each kernel moves against the fewest possible, launches, waits; into dev/bench/results
	$Qrm -f build/emulated.jsonl
	build/emu-watch/bench_emulated build/emulated.jsonl build/nvcc/kernels.txt
	$Q{ echo "["; sed '$$!s/$$/,/' build/emulated.jsonl; echo "]"; } > dev/bench/results/emulated.json
build/emu-watch/bench_emulated: dev/bench/emulated.cpp $(wildcard dev/bench/*.h) train_gpt2.cu $(CUDA) $(EMULATOR) test/emu/watch.cpp
	@mkdir -p $(@D)
	$Q$(MAKE) LOOK=watch build/emu-watch/watch.o
	$(call say,CXX)$(CXX) $(EMU_FLAGS) $(LOOK_watch) -c $< -o $@.o
	$(call say,CXX)$(CXX) $(EMU_FLAGS) $@.o build/emu-watch/watch.o -o $@
build/nvcc/kernels.txt: train_gpt2.cu $(CUDA) dev/nvcc_check.sh build/sass
	@mkdir -p $(@D)
	$(call say,NVCC)dev/nvcc_check.sh "$(NVCC)" "$(NVFLAGS)" 80 90 | tee $@

# with oneDNN's headers (libdnnl-dev) both are measured, turn by turn
ONEDNN    = $(shell echo 'int main(){}' | $(CXX) -include dnnl.hpp -x c++ - -ldnnl -o /dev/null 2>/dev/null && echo -DWITH_ONEDNN -ldnnl)
bench-gemm: $(B)/bench_gemm                 ## matrix products, beside oneDNN's where it is installed
	$(B)/bench_gemm

bench-guards: $(B)/bench_guards             ## what the guards cost at their defaults, as a share of a step
	$(B)/bench_guards $(ARGS)
bench-stall: train_gpt2                     ## how long training waits for a checkpoint, with and without --async-save; ARGS="d12 3"
	dev/bench/stall.sh $(ARGS)
$(B)/bench_guards: train_gpt2.cu
$(B)/bench_%: dev/bench/%.cpp $(wildcard dev/bench/*.h) $(CPU)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(FLAGS) $(CXXFLAGS) $< $(if $(findstring gemm,$*),$(ONEDNN)) -o $@

# --- learning ------------------------------------------------------------------------------------------------------------
learn:                                    ## chapters in doc/learn, exercises in dev/learn: make learn-layernorm grades one, learn-layernorm HINT=1.1 helps
	@echo "doc/learn/README.md says the order; exercises: $(patsubst dev/learn/%/table.h,make learn-%,$(wildcard dev/learn/*/table.h))"
learn-%:
	@CXX="$(CXX)" NVCC="$(NVCC)" HINT="$(HINT)" dev/learn/learn.sh $* || true
mutant: build/learn/mutant                ## a kernel with one mistake and what a user sees: find the line. SEED=3 another, SEED=3 LINE=12 an answer
	@build/learn/mutant $(or $(SEED),1) $(LINE) || true
check-learn: build/learn/check build/learn/draw build/learn/mutant build/learn/timed build/learn/verdicts  ## the chapters' code, numbers, links and pictures, and the exercises' solutions and blanks
	$(call say,TEST)CXX="$(CXX)" build/learn/check
	$(call say,TEST)build/learn/timed --jobs $(JOBS)
	$(call say,TEST)CXX="$(CXX)" build/learn/verdicts
build/learn/check build/learn/verdicts: build/learn/%: test/learn/%.cpp test/test.h $(HOST)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(FLAGS) -O1 $< -o $@
build/learn/timed: test/learn/timed.cpp test/main.cpp test/test.h dev/learn/timing.h dev/learn/parts.h dev/learn/grade.h $(CUDA) $(EMULATOR)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMU_FLAGS) -O1 $(filter %.cpp,$^) -o $@
build/learn/%: dev/learn/%.cpp $(wildcard dev/learn/picture.h dev/learn/*/pictures.h) $(HOST)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(FLAGS) -O1 $< -o $@

# --- the source ---------------------------------------------------------------------------------------------------------
single: build/train_gpt2_single.cpp       ## the whole CPU trainer as one file that compiles anywhere
build/train_gpt2_single.cpp: train_gpt2.cu $(CPU) dev/single.sh
	@mkdir -p $(@D)
	$(call say,CAT)dev/single.sh train_gpt2.cu > $@
	@echo "$@: c++ -std=c++20 -O3 -march=native -pthread $@ -o train_gpt2"

bits: train_gpt2 build/stories            ## what fixed runs leave on the CPU and in the emulator, as checksums: code that only moves leaves them all
	$Q$(MAKE) LOOK=plain build/emu-plain/train_gpt2cu
	dev/bits.sh ./train_gpt2 build/emu-plain/train_gpt2cu

full-size: train_gpt2                     ## SmolLM2 135M, Qwen3 0.6B, Llama 3.2 1B with random weights, in the memory that is planned: 24 GB, minutes
	dev/full_size.sh ./train_gpt2

check-includes:                           ## check who includes whom
	$Qdev/check_includes.sh

quickstart: train_gpt2 build/stories plot  ## sample data, two minutes of training by the clock, a text, a plot
	scripts/quickstart.sh

help:                                     ## this list
	@grep -hE '^[a-z0-9_/-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9_-]+):.*## */\1\t/' | expand -t 16

clean:                                    ## remove what was built
	rm -rf build train_gpt2 train_gpt2cu tokenize plot

.PHONY: all test test-deaths test-kill test-power test-faults test-bits fuzz coverage coverage-tests test-asan test-race test-nvcc test-cudnn test-cublaslt test-nccl test-gpu gpu-programs test-emu test-mutants emu-build bench bench-gpu bench-emu bench-gemm bench-guards single bits check-includes quickstart help clean test-ptx test-ptx-train soak test-lab lab-null lab-whole test-slurm test-worlds learn mutant check-learn emu $(LOOKS:%=emu-%)
