# kernels/*.cu for the GPU: one object library, nothing linked yet. sm_80 and sm_90a as machine code, compute_90 as PTX for what
# comes after. HONE_CUDA=ON without nvcc is an error by CMake's own words.
if(NOT HONE_CUDA)
  message(STATUS "CUDA: left out (HONE_CUDA is OFF); kernels/*.cu are tested by tests/cuda_on_cpu")
  return()
endif()
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
endif()
set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual)
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}, ${CMAKE_CUDA_ARCHITECTURES}")

file(GLOB HONE_CUDA_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
add_library(hone_cuda OBJECT ${HONE_CUDA_SOURCES})
target_compile_options(hone_cuda PRIVATE -Werror all-warnings "SHELL:-Xcompiler -Wall,-Wextra,-Wshadow,-Werror")
