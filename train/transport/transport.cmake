# What moves between ranks: part of the room train.
file(GLOB HONE_TRANSPORT CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/train/transport/*.c)
target_sources(hone_train PRIVATE ${HONE_TRANSPORT})
