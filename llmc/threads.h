// threads.h: the host's threads: OpenMP's, or one where there is no OpenMP.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

inline int max_threads() {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}
inline int thread_number() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}
inline void set_threads([[maybe_unused]] int n) {
#ifdef _OPENMP
    if (n > 0) omp_set_num_threads(n);
#endif
}
