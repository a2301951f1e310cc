# What moves between ranks: part of the room train. hone_mpi.so, which alone knows an MPI, lies beside the program that loads it.
file(GLOB HONE_TRANSPORT CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/train/transport/*.c)
target_sources(hone_train PRIVATE ${HONE_TRANSPORT})
target_link_libraries(hone_train PUBLIC ${CMAKE_DL_LIBS})

set(MPI_CXX_SKIP_MPICXX TRUE)
find_package(MPI QUIET COMPONENTS C)
if(MPI_C_FOUND AND NOT HONE_BUNDLE) # a bundle's MPI is the cluster's
  message(STATUS "MPI: ${MPI_C_LIBRARIES}")
  add_library(hone_mpi MODULE ${CMAKE_SOURCE_DIR}/train/transport/module/hone_mpi.c)
  target_link_libraries(hone_mpi PRIVATE MPI::MPI_C)
  set_target_properties(hone_mpi PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
else()
  message(STATUS "MPI: left out (no mpicc, or a bundle); ranks speak over TCP")
endif()
