// host_device.h: marks the few functions of llmc/ that kernels call too. On a CPU the mark means nothing.
#pragma once
#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif
