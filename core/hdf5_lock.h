/* HDF5 keeps one state for the whole process and need not be built for threads (the small build of a bundle is not). Whoever calls it
 * stands between these two, so that one thread is inside at a time: the checkpoint's writer while training goes on, the token cache,
 * the trunk cache.
 *
 * Stay inside for one file's structures or one dataset, not for a whole file of gigabytes: the others wait. */
#ifndef HONE_CORE_HDF5_LOCK_H
#define HONE_CORE_HDF5_LOCK_H

/* Waits while another thread is inside. A thread that is inside does not enter again. */
void hn_hdf5_enter(void);
void hn_hdf5_leave(void);

#endif
