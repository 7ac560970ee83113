// What a kernel that was compiled for the processor shares with the stand-in for the driver.
#pragma once

#include <stdint.h>

struct Dim {
  uint32_t x, y, z;
};

// The CUDA thread that runs at the moment: a fibre of the processor's thread.
struct CardThread {
  Dim thread, block, block_size, grid_size;
  int place; // in its block, x first
  int warp, lane;
};

// Bytes that a lane can hand to the others of its warp at a time.
constexpr int SHARED_BY_A_LANE = 64;

extern "C" {
extern __thread CardThread *card_thread;
extern __thread unsigned char *card_shared_memory;
void card_sync_block();
void card_sync_warp();
// Takes `size` bytes of every lane; lane i's lie at the answer + i · SHARED_BY_A_LANE, until the
// calling thread shares once more.
const unsigned char *card_share(const void *value, int size);
// Lanes of the calling thread's warp that have not returned.
uint32_t card_live_lanes();
// Ends the launch with an error.
void card_fault(const char *why);
}
