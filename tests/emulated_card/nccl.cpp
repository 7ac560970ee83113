// libnccl for the emulated card: what CubeCL calls of it, between the devices of one process.
//
// As with NCCL, joining a group waits for all of its ranks, a receiver waits for its sender, and both must name the
// same number of elements. Memory of a device is the host's, so a message is a copy.

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum Result { SUCCESS = 0, INVALID_ARGUMENT = 4, INVALID_USAGE = 5 };

struct UniqueId {
  char bytes[128];
};

struct Group {
  int ranks = 0, joined = 0;
  std::map<std::pair<int, int>, std::deque<std::string>> messages;
};

struct Comm {
  Group *group;
  int rank;
};

std::mutex guard;
std::condition_variable changed;
std::map<std::string, Group> groups;
long ids, sent, sent_bytes;

__attribute__((destructor)) void summary() {
  if (getenv("CARD_SUMMARY")) fprintf(stderr, "nccl: %ld messages, %ld bytes\n", sent, sent_bytes);
}

// Of ncclInt8, ncclUint8, ncclInt32, ncclUint32, ncclInt64, ncclUint64, ncclFloat16, ncclFloat32, ncclFloat64 and
// ncclBfloat16.
size_t width(int type) {
  static const size_t widths[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
  return type >= 0 && type < 10 ? widths[type] : 0;
}

} // namespace

API int ncclGetUniqueId(UniqueId *id) {
  std::lock_guard lock(guard);
  memset(id, 0, sizeof *id);
  snprintf(id->bytes, sizeof id->bytes, "group %ld", ++ids);
  return SUCCESS;
}

API int ncclCommInitRank(Comm **comm, int ranks, UniqueId id, int rank) {
  std::unique_lock lock(guard);
  Group &group = groups[id.bytes];
  if (rank < 0 || rank >= ranks || (group.ranks && group.ranks != ranks)) return INVALID_ARGUMENT;
  group.ranks = ranks;
  group.joined++;
  changed.notify_all();
  changed.wait(lock, [&] { return group.joined >= ranks; });
  *comm = new Comm{&group, rank};
  return SUCCESS;
}

API int ncclSend(const void *data, size_t count, int type, int peer, Comm *comm, void *) {
  if (!width(type) || peer < 0 || peer >= comm->group->ranks || peer == comm->rank) return INVALID_ARGUMENT;
  std::lock_guard lock(guard);
  comm->group->messages[{comm->rank, peer}].emplace_back((const char *)data, count * width(type));
  sent++;
  sent_bytes += count * width(type);
  changed.notify_all();
  return SUCCESS;
}

API int ncclRecv(void *data, size_t count, int type, int peer, Comm *comm, void *) {
  if (!width(type) || peer < 0 || peer >= comm->group->ranks || peer == comm->rank) return INVALID_ARGUMENT;
  std::unique_lock lock(guard);
  auto &messages = comm->group->messages[{peer, comm->rank}];
  changed.wait(lock, [&] { return !messages.empty(); });
  std::string message = std::move(messages.front());
  messages.pop_front();
  if (message.size() != count * width(type)) return INVALID_USAGE;
  memcpy(data, message.data(), message.size());
  return SUCCESS;
}
