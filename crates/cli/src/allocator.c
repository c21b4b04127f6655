/* Says to glibc, before main() and before any thread: one arena for all threads.
 *
 * By default each thread reserves 64 MiB of address space for an arena of its own, for a moment 128 MiB, so that a
 * program with a few threads needs 300 MiB and more on a host that does not overcommit, and what one thread frees is
 * not used again by another. Threads here allocate few and large pieces, so that the one lock is no bottleneck.
 *
 * Pieces of 256 KiB and more are mapped one by one, for as long as they live: by default that ends with the first large
 * piece that is freed, and from then on the parts of an upload leave holes behind that are never given back.
 *
 * This is the only way: Rust's standard library has no call for it, and no safe crate does. */

#include <stdlib.h>

#ifdef __GLIBC__
#include <malloc.h>

__attribute__((constructor)) static void one_arena(void)
{
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_MMAP_THRESHOLD, 256 * 1024);
}
#endif
