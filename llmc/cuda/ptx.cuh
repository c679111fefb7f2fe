// ptx.cuh: one function a PTX instruction, named after it; no other file contains asm. (PTX ISA 8.4)
#pragma once
#include <cstdint>
