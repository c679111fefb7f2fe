// driver.c: libcuda.so.1 where there is no GPU, as far as cuDNN needs it to build plans for one that is elsewhere: a library of kernels
// counts as loaded, and everything else exists and refuses with CUDA_ERROR_STUB_LIBRARY. The names are those that 9.12 to 9.28 look for.
int cuLibraryLoadData(void** library) { *library = library; return 0; }
int cuLibraryGetKernel(void** kernel) { *kernel = kernel; return 0; }
#define REFUSE(name) int name(void) { return 34; }
REFUSE(cuCtxGetCurrent) REFUSE(cuCtxGetLimit) REFUSE(cuCtxPopCurrent) REFUSE(cuCtxPushCurrent) REFUSE(cuDeviceGet)
REFUSE(cuDeviceGetCount) REFUSE(cuDriverGetVersion) REFUSE(cuGetErrorName) REFUSE(cuGetErrorString) REFUSE(cuKernelGetAttribute)
REFUSE(cuKernelGetFunction) REFUSE(cuKernelSetAttribute) REFUSE(cuLaunchCooperativeKernel) REFUSE(cuLaunchKernel)
REFUSE(cuLaunchKernelEx) REFUSE(cuLibraryLoadFromFile) REFUSE(cuLibraryUnload) REFUSE(cuLinkAddData) REFUSE(cuLinkComplete)
REFUSE(cuLinkCreate) REFUSE(cuLinkDestroy) REFUSE(cuModuleGetFunction) REFUSE(cuModuleLoadData) REFUSE(cuModuleUnload)
REFUSE(cuOccupancyMaxPotentialClusterSize) REFUSE(cuStreamGetCtx) REFUSE(cuTensorMapEncodeIm2col) REFUSE(cuTensorMapEncodeTiled)
