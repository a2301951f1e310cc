# The GPU's half of kernels/: *.cu, cuda/*.c, and table.c with HN_ISA=cuda, in machine code for sm_80 and sm_90a and PTX for what comes after.
# Without CUDA cuda/none.c stands in for all of it. hone_kernels takes HONE_GPU_SOURCES and HONE_GPU_LIBRARIES. HONE_CUDA=ON without nvcc is an error by CMake's own words.
file(GLOB HONE_CUDA_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
file(GLOB HONE_CUDA_HOST CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.c)
list(REMOVE_ITEM HONE_CUDA_HOST ${CMAKE_SOURCE_DIR}/kernels/cuda/none.c ${CMAKE_SOURCE_DIR}/kernels/cuda/cublas_lt_load.c
  ${CMAKE_SOURCE_DIR}/kernels/cuda/nvtx.c ${CMAKE_SOURCE_DIR}/kernels/cuda/no_nvtx.c)
list(APPEND HONE_CUDA_HOST ${CMAKE_SOURCE_DIR}/kernels/table.c)

if(NOT HONE_CUDA)
  message(STATUS "CUDA: left out (HONE_CUDA is OFF); kernels/*.cu are tested by tests/cuda_on_cpu")
  set(HONE_GPU_SOURCES ${CMAKE_SOURCE_DIR}/kernels/cuda/none.c)
  set(HONE_GPU_LIBRARIES "")
  return()
endif()
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
endif()
set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_STANDARD 17)
message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}, ${CMAKE_CUDA_ARCHITECTURES}")

add_library(hone_cuda OBJECT ${HONE_CUDA_KERNELS} ${HONE_CUDA_HOST} ${CMAKE_SOURCE_DIR}/kernels/cuda/cublas_lt_load.c
  ${CMAKE_SOURCE_DIR}/kernels/cuda/nvtx.c)
target_compile_definitions(hone_cuda PRIVATE HN_ISA=cuda)
target_compile_options(hone_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=size;-Werror;all-warnings;SHELL:-Xcompiler -Wall,-Wextra,-Wshadow,-Werror>")
set(HONE_GPU_LIBRARIES CUDA::cudart_static ${CMAKE_DL_LIBS}) # cuBLASLt is loaded when it is used: cuda/cublas_lt_load.c
target_link_libraries(hone_cuda PUBLIC hone_core ${HONE_GPU_LIBRARIES})
set(HONE_GPU_SOURCES $<TARGET_OBJECTS:hone_cuda>)
