// backend.h: picks the backend: CUDA for nvcc, and for a C++ compiler that finds test/emu. Both offer the same functions under the same names.
#pragma once
#if defined(__CUDACC__) || __has_include(<cuda_on_cpu.h>)
#include "cuda/backend.cuh"
#else
#include "cpu/adamw.h"
#include "cpu/attention.h"
#include "cpu/checksum.h"
#include "cpu/classifier.h"
#include "cpu/device.h"
#include "cpu/embedding.h"
#include "cpu/gelu.h"
#include "cpu/gradients.h"
#include "cpu/layernorm.h"
#include "cpu/matmul.h"
#include "cpu/muon.h"
#include "cpu/rope.h"
#include "cpu/step_guard.h"
#include "cpu/swiglu.h"
#endif
