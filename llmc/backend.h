// backend.h: picks the backend. Both offer the same functions under the same names.
#pragma once
#ifdef __CUDACC__
#include "cuda/backend.cuh"
#else
#include "cpu/adamw.h"
#include "cpu/attention.h"
#include "cpu/classifier.h"
#include "cpu/device.h"
#include "cpu/embedding.h"
#include "cpu/gelu.h"
#include "cpu/global_norm.h"
#include "cpu/layernorm.h"
#include "cpu/matmul.h"
#endif
