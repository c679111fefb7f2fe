// cuda_runtime.h: CUDA on a CPU: the toolkit's name, found by -Itest/emu. README.md says what it covers.
#pragma once
#include "arithmetic.h"
#include "launch.h"
#include "warp.h"
