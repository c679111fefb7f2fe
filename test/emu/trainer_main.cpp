// trainer_main.cpp: the emulated trainer by itself. Its main is compiled with the layers' tests, which have another one (Makefile, kernels.o).
int trainer_main(int argc, char** argv);
int main(int argc, char** argv) { return trainer_main(argc, argv); }
