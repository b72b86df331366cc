# likeness. `make` prints help. Everything built goes to build/ (BUILD=...); nothing else is written but results/.
#   CUDA=0|1|auto   SAN=address,undefined | SAN=thread   CC, CPPFLAGS, CFLAGS, LDFLAGS: yours are respected
.DEFAULT_GOAL := help
SHELL := /bin/bash
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
MAKEFLAGS += --no-print-directory

CUDA    ?= auto
SAN     ?=
CFLAGS  ?= -O2 -g
BUILD   ?= build$(if $(SAN),-san-$(subst $(comma),-,$(SAN)))
comma   := ,
BIN     := $(BUILD)/bin
ifneq ($(filter-out 0 1 auto,$(CUDA)),)
$(error CUDA=$(CUDA): it is 0, 1 or auto)
endif
ifneq ($(filter-out address undefined leak thread,$(subst $(comma), ,$(SAN))),)
$(error SAN=$(SAN): it is address, undefined, leak (joined by commas) or thread)
endif
ifeq ($(CUDA)$(wildcard framework/backend/cuda/*.cu),1)
$(warning CUDA=1: this tree has no CUDA kernels; everything is built for the CPU)
endif
# what would change bits (docs/numerics.md rule 1) is taken out of the user's flags; -Ofast also at the link, where it flushes subnormals
CHANGES_BITS := -Ofast -ffast-math -funsafe-math-optimizations -fassociative-math -freciprocal-math -ffinite-math-only -fno-signed-zeros -mdaz-ftz
ifneq ($(filter $(CHANGES_BITS),$(CFLAGS)),)
$(warning left out of CFLAGS, since it changes results: $(filter $(CHANGES_BITS),$(CFLAGS)))
override CFLAGS := $(if $(filter -Ofast,$(CFLAGS)),-O3) $(filter-out $(CHANGES_BITS),$(CFLAGS))
endif

# ---- packages: found by pkg-config, installed by apt when root, else the line is printed and make stops
QUIET_GOALS := help clean
ifneq ($(if $(MAKECMDGOALS),$(filter-out $(QUIET_GOALS),$(MAKECMDGOALS)),),)
DEPS_OK := $(shell sh framework/setup.sh 1>&2 && echo yes)
ifneq ($(DEPS_OK),yes)
$(error packages are missing; the line above installs them)
endif
endif
PKG_CF    := $(shell pkg-config --cflags hdf5 libpng libjpeg jansson 2>/dev/null)
# OpenBLAS and LAPACKE are loaded by what needs them (framework/base/lapack.h)
PKG_LIBS  := $(shell pkg-config --libs hdf5 libpng libjpeg jansson gsl 2>/dev/null) -lhdf5_hl -ldl -lm -lpthread
TEST_LIBS := $(shell pkg-config --libs cunit 2>/dev/null || echo -lcunit)

# ---- flags. The last ones are docs/numerics.md rule 1 and win over the user's.
LK_CF := -std=c17 -D_GNU_SOURCE -Wall -Wextra -Wno-missing-field-initializers -Iframework -I. $(PKG_CF) -MMD -MP \
         $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -Wno-format-truncation)
LK_FP := -fno-fast-math -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-lto
LK_LD := $(if $(SAN),-fsanitize=$(SAN))
ISA_scalar := -mfma -mno-avx512f -fno-tree-vectorize
ISA_avx2   := -mavx2 -mfma -mno-avx512f
ISA_avx512 := -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mprefer-vector-width=512
ISAS := scalar avx2 avx512

# ---- sources: a new file in a folder is found by itself
LIB_SRC    := $(wildcard framework/base/*.c framework/io/*.c framework/graph/*.c framework/backend/*.c framework/backend/ref/*.c \
                framework/backend/cpu/*.c framework/train/*.c framework/harness/*.c models/*.c losses/*.c metrics/*.c datasets/*.c framework/cli/golden/*.c experiments/common/*.c)
KERNEL_SRC := $(wildcard framework/backend/cpu/kernels/*.c)
TOOL_SRC   := $(wildcard framework/cli/*.c)
EXP_SRC    := $(wildcard experiments/*.c)
ZOO_SRC    := $(wildcard experiments/zoo/*.c)
TEST_SRC   := $(wildcard tests/*/test_*.c tests/*/*/test_*.c)
TEST_LIB   := $(wildcard tests/lib/*.c)
EMU_SRC    := $(wildcard framework/backend/cuda/*.c tests/emulation/*.c)
LIB_OBJ    := $(LIB_SRC:%.c=$(BUILD)/%.o) $(foreach i,$(ISAS),$(KERNEL_SRC:%.c=$(BUILD)/%.$(i).o))
TOOLS      := $(TOOL_SRC:framework/cli/%.c=$(BIN)/%)
EXPS       := $(EXP_SRC:experiments/%.c=$(BIN)/exp-%)
ZOOS       := $(ZOO_SRC:experiments/zoo/%.c=$(BIN)/zoo-%)
TESTS      := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
LIB        := $(BUILD)/liblk.a
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
.SECONDARY:

all: $(LIB) $(TOOLS) $(EXPS) $(ZOOS)

# flags are part of what is built: a change of them rebuilds
FLAGS_NOW := $(CC) $(CPPFLAGS) $(CFLAGS) $(LK_CF) $(LK_FP) $(ISA_scalar) $(ISA_avx2) $(ISA_avx512)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D); echo '$(FLAGS_NOW)' | cmp -s - $@ || echo '$(FLAGS_NOW)' > $@
$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LK_CF) $(LK_FP) -c $< -o $@
define isa_rule
$(BUILD)/framework/backend/cpu/kernels/%.$(1).o: framework/backend/cpu/kernels/%.c $(BUILD)/flags
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(LK_CF) $(if $(SAN),-O1,-O3) $$(LK_FP) $$(ISA_$(1)) -DLK_ISA=$(1) -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))
$(BUILD)/framework/backend/cpu/backend_cpu.o: $(KERNEL_SRC)
$(LIB): $(LIB_OBJ)
	@rm -f $@; $(AR) rcs $@ $(LIB_OBJ)
# an experiment carries the source id of what is linked into it (framework/harness/source_id.c), written after linking
define link_experiment
@mkdir -p $(@D); rm -f $@
$(CC) $(CFLAGS) $(LK_LD) $< $(LIB) $(LDFLAGS) $(PKG_LIBS) -Wl,--trace -o $@.new > $@.linked
@$(BIN)/lk-source-id $@.new $@.linked $(<:.o=.d) $(LIB_OBJ:.o=.d) && mv $@.new $@
endef
$(BIN)/exp-%: $(BUILD)/experiments/%.o $(LIB) $(BIN)/lk-source-id
	$(link_experiment)
# the harness's tests run a synthetic experiment, linked like any other
FIXTURE := $(BUILD)/tests/harness/exp-fixture
$(FIXTURE): $(BUILD)/tests/harness/fixture/fixture.o $(LIB) $(BIN)/lk-source-id
	$(link_experiment)
$(BUILD)/tests/harness/test_%.o: LK_CF += '-DFIXTURE="$(FIXTURE)"' '-DBUILD_BIN="$(BIN)"'
$(filter $(BUILD)/tests/harness/test_%,$(TESTS)): $(FIXTURE) $(TOOLS)
$(BUILD)/tests/metrics/test_command.o: LK_CF += '-DBUILD_BIN="$(BIN)"'
$(BUILD)/tests/metrics/test_command: $(BIN)/lk-metrics
$(BUILD)/framework/harness/provenance.o: LK_CF += '-DLK_FLAGS="$(CC) $(CFLAGS) $(LK_FP)"'
$(BIN)/zoo-%: $(BUILD)/experiments/zoo/%.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LK_LD) $< $(LIB) $(LDFLAGS) $(PKG_LIBS) -o $@
$(BIN)/%: $(BUILD)/framework/cli/%.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LK_LD) $< $(LIB) $(LDFLAGS) $(PKG_LIBS) -o $@
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_LIB:%.c=$(BUILD)/%.o) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LK_LD) $< $(TEST_LIB:%.c=$(BUILD)/%.o) $(LIB) $(LDFLAGS) $(TEST_LIBS) $(PKG_LIBS) -o $@

# ---- backend/cuda on the host: its plain C over the emulated runtime, linked into its tests alone
EMU_OBJ := $(EMU_SRC:%.c=$(BUILD)/%.o) $(BUILD)/tests/emulation/choose.o
$(BUILD)/tests/backend/cuda/%: $(BUILD)/tests/backend/cuda/%.o $(TEST_LIB:%.c=$(BUILD)/%.o) $(EMU_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LK_LD) $< $(TEST_LIB:%.c=$(BUILD)/%.o) $(EMU_OBJ) $(LIB) $(LDFLAGS) $(TEST_LIBS) $(PKG_LIBS) -o $@
$(BUILD)/tests/emulation/kernels.o: LK_CF += -mfma
$(filter-out %/choose.o,$(EMU_OBJ)) $(BUILD)/tests/backend/cuda/%.o: LK_CF += -Itests/emulation/include
$(BUILD)/tests/emulation/choose.o: framework/backend/choose.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LK_CF) $(LK_FP) -DLK_CUDA -c $< -o $@

# the harness's tests of backend=cuda: its synthetic and a real experiment, over the emulated runtime
EMU_EXPS := $(BUILD)/tests/backend/cuda/exp-fixture $(BUILD)/tests/backend/cuda/exp-lora_rank_sweep
define link_emulated
@mkdir -p $(@D); rm -f $@
$(CC) $(CFLAGS) $(LK_LD) $< $(EMU_OBJ) $(LIB) $(LDFLAGS) $(PKG_LIBS) -Wl,--trace -o $@.new > $@.linked
@$(BIN)/lk-source-id $@.new $@.linked $(<:.o=.d) $(LIB_OBJ:.o=.d) $(EMU_OBJ:.o=.d) && mv $@.new $@
endef
$(BUILD)/tests/backend/cuda/exp-fixture: $(BUILD)/tests/harness/fixture/fixture.o $(EMU_OBJ) $(LIB) $(BIN)/lk-source-id
	$(link_emulated)
$(BUILD)/tests/backend/cuda/exp-%: $(BUILD)/experiments/%.o $(EMU_OBJ) $(LIB) $(BIN)/lk-source-id
	$(link_emulated)
$(BUILD)/tests/backend/cuda/test_harness: $(EMU_EXPS) $(FIXTURE) $(BUILD)/tests/backend/cuda/bench_lora
$(BUILD)/tests/backend/cuda/test_harness.o: LK_CF += '-DFIXTURE="$(FIXTURE)"' '-DEMULATED="$(BUILD)/tests/backend/cuda/exp-"' '-DEMULATED_DIR="$(BUILD)/tests/backend/cuda/"'

# ---- CUDA: the same bodies by nvcc, the runtime around them, and programs of their own: build/cuda/bin/exp-NAME. They link no GSL, so the
# three sources that know of it or of CUDA are compiled anew for them. CUDA=auto: where nvcc is; CUDA=0: no trace.
NVCC := $(if $(filter 0,$(CUDA)),,$(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc)))
CUDA_BUILD ?= $(BUILD)/cuda
CUDA_HOME := $(patsubst %/bin/nvcc,%,$(NVCC))
# sm_100 needs toolkit 12.8: what this nvcc does not know is left out
CUDA_ARCHS ?= $(foreach a,80 90 100,$(if $(filter compute_$(a),$(shell $(NVCC) --list-gpu-arch)),$(a)))
NVCC_FLAGS = -std=c++17 -O3 -fmad=false -ftz=false -prec-div=true -prec-sqrt=true -Iframework -I. -Werror all-warnings \
              $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
              -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
CUDA_C     := $(wildcard framework/backend/cuda/*.c) framework/backend/choose.c framework/harness/provenance.c metrics/distributions.c
CUDA_OBJ   := $(CUDA_C:%.c=$(CUDA_BUILD)/%.o) $(CUDA_BUILD)/kernels.o
CUDA_LIBS  := $(shell pkg-config --libs hdf5 libpng libjpeg jansson 2>/dev/null) -lhdf5_hl -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 \
              -lcublasLt -lcudart_static -lstdc++ -ldl -lrt -lm -lpthread
CUDA_EXPS  := $(EXP_SRC:experiments/%.c=$(CUDA_BUILD)/bin/exp-%)
cuda: $(if $(NVCC),$(CUDA_EXPS),no-nvcc)
no-nvcc: ; @echo "CUDA kernels are not built: $(if $(filter 0,$(CUDA)),CUDA=0,nvcc is not in PATH nor in /usr/local/cuda/bin; install the CUDA toolkit 12 or 13)"
$(CUDA_BUILD)/flags: FORCE
	@mkdir -p $(@D); echo '$(NVCC) $(NVCC_FLAGS)' | cmp -s - $@ || echo '$(NVCC) $(NVCC_FLAGS)' > $@
$(CUDA_BUILD)/kernels.o: framework/backend/cuda/kernels.cu $(CUDA_BUILD)/flags
	@mkdir -p $(@D)
	$(NVCC) $(NVCC_FLAGS) -MD -MP -MF $(@:.o=.d) -Xptxas -v -c $< -o $@ 2> $@.log || { cat $@.log; exit 1; }
$(CUDA_C:%.c=$(CUDA_BUILD)/%.o): $(CUDA_BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LK_CF) $(LK_FP) -DLK_CUDA -DLK_NO_GSL '-DLK_FLAGS="$(CC) $(CFLAGS) $(LK_FP), nvcc $(NVCC_FLAGS)"' -isystem $(CUDA_HOME)/include -c $< -o $@
$(CUDA_BUILD)/bin/exp-%: $(BUILD)/experiments/%.o $(CUDA_OBJ) $(LIB) $(BIN)/lk-source-id
	@mkdir -p $(@D); rm -f $@
	$(CC) $(CFLAGS) $(LK_LD) $< $(CUDA_OBJ) $(LIB) $(LDFLAGS) $(CUDA_LIBS) -Wl,--trace -o $@.new > $@.linked
	@$(BIN)/lk-source-id $@.new $@.linked $(<:.o=.d) $(LIB_OBJ:.o=.d) $(CUDA_OBJ:.o=.d) && mv $@.new $@
# the tests that run over the emulation in `make check`, on a device; and a training step of public models' size
GPU_TESTS := $(addprefix $(CUDA_BUILD)/tests/backend/cuda/,test_ops test_step test_fast)
GPU_BENCH := tests/backend/cuda/bench_lora
$(CUDA_BUILD)/bin/lk-golden: $(BUILD)/framework/cli/lk-golden.o $(CUDA_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LK_LD) $< $(CUDA_OBJ) $(LIB) $(LDFLAGS) $(CUDA_LIBS) -o $@
$(CUDA_BUILD)/tests/backend/cuda/%.o: tests/backend/cuda/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LK_CF) $(LK_FP) -DLK_CUDA -DLK_ON_DEVICE -isystem $(CUDA_HOME)/include -c $< -o $@
$(GPU_TESTS): %: %.o $(TEST_LIB:%.c=$(BUILD)/%.o) $(CUDA_OBJ) $(LIB)
	$(CC) $(CFLAGS) $(LK_LD) $< $(TEST_LIB:%.c=$(BUILD)/%.o) $(CUDA_OBJ) $(LIB) $(LDFLAGS) $(TEST_LIBS) $(CUDA_LIBS) -o $@
$(CUDA_BUILD)/$(GPU_BENCH): %: %.o $(CUDA_OBJ) $(LIB)
	$(CC) $(CFLAGS) $(LK_LD) $< $(CUDA_OBJ) $(LIB) $(LDFLAGS) $(CUDA_LIBS) -o $@
$(BUILD)/$(GPU_BENCH): %: %.o $(EMU_OBJ) $(LIB)
	$(CC) $(CFLAGS) $(LK_LD) $< $(EMU_OBJ) $(LIB) $(LDFLAGS) $(PKG_LIBS) -o $@
gpu-check: $(if $(emulated),$(EMU_EXPS) $(addprefix $(BUILD)/tests/backend/cuda/,test_ops test_step test_fast bench_lora),$(if $(NVCC),$(GPU_TESTS) $(CUDA_BUILD)/$(GPU_BENCH) $(CUDA_BUILD)/bin/lk-golden $(CUDA_EXPS),no-nvcc)) $(BIN)/exp-lora_rank_sweep
	@$(if $(or $(emulated),$(NVCC)),BUILD=$(BUILD) CUDA_BUILD=$(CUDA_BUILD) emulated=$(emulated) n=$(n) bash tests/backend/cuda/gpu_check.sh,exit 1)
cuda-usage: $(if $(NVCC),$(CUDA_BUILD)/kernels.o,no-nvcc)
	@test -z "$(NVCC)" || sh framework/backend/cuda/usage.sh $(CUDA_BUILD)/kernels.o.log

# ---- tests: programs, and checks of the tree itself (tests/check_*). only="PATTERN ..." builds and runs those whose path contains one.
CHECKS  := $(TESTS) $(wildcard tests/check_*)
CHECKED := $(if $(only),$(sort $(foreach o,$(only),$(foreach t,$(CHECKS),$(if $(findstring $(o),$(t)),$(t))))),$(CHECKS))
check: $(CHECKED) all $(if $(findstring check_headers,$(CHECKED)),$(EMU_OBJ))
	@BUILD=$(BUILD) sh tests/run.sh $(CHECKED)
golden: $(BIN)/lk-golden
	@test -n "$(dir)" || { echo "make golden dir=PATH: a case or a tree of cases"; exit 2; }
	@$(BIN)/lk-golden $(dir) $(if $(backend),backend=$(backend))

# ---- experiments: make exp=NAME run|plan|status|report|verify|clean-runs
EXP_GOALS := run plan status report verify publish clean-runs
EXP_ARGS = $(if $(profile),profile=$(profile)) $(if $(set),set="$(set)") $(if $(j),j=$(j)) $(if $(engine),engine=$(engine)) $(if $(dry),dry=$(dry)) \
  $(if $(retry),retry=$(retry)) $(if $(watch),watch=$(watch)) $(if $(n),n=$(n)) $(if $(published),published=$(published)) $(if $(mem),mem=$(mem)) $(if $(backend),backend=$(backend))
# backend=cuda: the program that has it, where nvcc is; else the one that says what to do
EXP_BIN = $(if $(and $(filter cuda%,$(backend)),$(NVCC)),$(CUDA_BUILD)/bin,$(BIN))
$(EXP_GOALS): need-exp $(if $(exp),$(if $(wildcard experiments/$(exp).c),$(EXP_BIN)/exp-$(exp)))
	@$(EXP_BIN)/exp-$(exp) $@ $(EXP_ARGS)
need-exp:
	@sh framework/harness/need_exp.sh "$(exp)" $(EXP_SRC:experiments/%.c=%)
list new compare gc: $(TOOLS) $(EXPS)
	@$(BIN)/lk-runs $@ $(if $(exp),exp=$(exp)) $(if $(A),A=$(A)) $(if $(B),B=$(B))
zoo: all
	@BUILD=$(BUILD) sh experiments/zoo/zoo.sh train
zoo-check: all
	@BUILD=$(BUILD) sh experiments/zoo/zoo.sh check
bench: all $(FIXTURE) $(BUILD)/tests/io/test_runfile
	@for f in $(if $(ablation),bench_ablation,bench bench_harness bench_metrics bench_sd15); do BUILD=$(BUILD) bash tests/bench/$$f.sh || exit 1; done
fuzz: ; @bash tests/fuzz/fuzz.sh
soak: $(BUILD)/tests/harness/test_kill ; @BUILD=$(BUILD) bash tests/harness/soak.sh
paper: ; @sh paper/build.sh $(if $(draft),draft)
PREFIX ?= /usr/local
# tools, experiments, liblk.a, the headers as the tree has them (compile with -I PREFIX/include/likeness). Experiments read datasets/ and
# models/ below the folder they are started in.
HEADERS := $(filter-out %internal.h %_impl.h %/run.h %/shape_rules.h, \
             $(patsubst framework/%,%,$(wildcard framework/*/*.h framework/graph/ops.def)) $(wildcard models/*.h losses/*.h metrics/*.h datasets/*.h))
install: all
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin lib $(sort $(dir $(HEADERS:%=include/likeness/%))))
	install -m 755 $(TOOLS) $(EXPS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(LIB) $(DESTDIR)$(PREFIX)/lib
	@set -e; for h in $(HEADERS); do f=framework/$$h; [ -f $$f ] || f=$$h; install -m 644 $$f $(DESTDIR)$(PREFIX)/include/likeness/$$h; done
clean: ; rm -rf $(BUILD) build build-san-*
help:
	@sed -n 's/^#H \{0,1\}//p' Makefile
#H likeness: reproducible experiments on identity-preserving image personalisation
#H
#H   make exp=lora_rank_sweep run      train, sample, score, tables and figures   [profile=tiny|smoke|default|paper]
#H                                     [set="rank=2,4 seed=0..5"] [j=2] [engine=local|slurm|mpi] [dry=1] [retry=1]
#H   make exp=NAME plan|status|report  memory and runs; states [watch=1]; tables, figures, report.html
#H                                     [mem=2G: what a worker may take; its gradients recompute to fit]
#H   make exp=NAME verify              re-executes runs and compares bits [n=3|all] [published=1]
#H   make exp=NAME publish             digests, tables and figures to results/published/
#H   make exp=NAME clean-runs          deletes this sweep's runs
#H   make compare A=RUN B=RUN          what differs between two runs
#H   make check [only=PATTERN]         builds and runs every test
#H   make golden dir=PATH              runs the peers' vectors found below PATH
#H   make zoo | zoo-check              trains the small models again | replays their first steps
#H   make cuda | cuda-usage            programs with CUDA, build/cuda/bin | registers and shared memory of each kernel
#H   make gpu-check [n=3]              on a machine with a GPU: bits, digests, times; a report to send back [emulated=1]
#H   make exp=NAME run backend=cuda    on a GPU; fast tiers cuda-fp32, cuda-tf32, cuda-bf16 (docs/cuda.md)
#H   make list | new exp=NAME | gc     experiments and sweeps | a new experiment | delete what no sweep names
#H   make bench [ablation=1] | fuzz | soak | paper [draft=1] | all | install | clean
#H
#H   CUDA=0|1|auto  SAN=address,undefined|thread  BUILD=DIR  CC=  CFLAGS=  LK_ISA=scalar|avx2|avx512  LK_THREADS=2
#H   Start here: README.md, then docs/design.md; docs/extending.md to add an operation, model, metric or experiment
FORCE:
.PHONY: all check golden $(EXP_GOALS) need-exp list new compare gc zoo zoo-check bench fuzz soak paper install clean help cuda no-nvcc cuda-usage gpu-check FORCE
