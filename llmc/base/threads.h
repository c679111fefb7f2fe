// threads.h: the host's threads: OpenMP's, or one where there is no OpenMP.
#pragma once
#ifdef _OPENMP
#include <omp.h>
inline int max_threads() { return omp_get_max_threads(); }
inline int thread_number() { return omp_get_thread_num(); }
inline void set_threads(int n) { if (n > 0) omp_set_num_threads(n); }
#else
inline int max_threads() { return 1; }
inline int thread_number() { return 0; }
inline void set_threads(int) {}
#endif
