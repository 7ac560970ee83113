// libnvrtc for a machine without a card: has translate.py and g++ make a shared object of a kernel.
//
// With CARD_NVRTC=PYTHON_SCRIPT each source also goes to the real NVRTC (check_nvrtc.py), which needs no
// card either; a kernel that it refuses is refused here.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <unistd.h>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum Result { SUCCESS = 0, COMPILATION_FAILED = 6 };

struct Program {
  std::string source, log, image;
};

std::string hash(const std::string &text) {
  unsigned long long value = 1469598103934665603ull;
  for (unsigned char c : text) value = (value ^ c) * 1099511628211ull;
  char digits[20];
  snprintf(digits, sizeof digits, "%016llx", value);
  return digits;
}

bool exists(const std::string &path) { return access(path.c_str(), F_OK) == 0; }

std::string contents(const std::string &path) {
  std::string text;
  if (FILE *file = fopen(path.c_str(), "r")) {
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, file));) text.append(part, n);
    fclose(file);
  }
  return text;
}

// Runs a script on a kernel; its output is the program's log.
bool succeeds(Program &program, const std::string &script, const std::string &kernel,
              const std::string &argument) {
  const std::string log = kernel + ".log";
  // The compilers are not to find the stand-ins.
  const std::string command =
      "env -u LD_LIBRARY_PATH python3 " + script + " " + kernel + " " + argument + " >" + log + " 2>&1";
  if (system(command.c_str()) == 0) return true;
  program.log = contents(log);
  fprintf(stderr, "emulated card: %s.cu was refused: see %s\n", kernel.c_str(), log.c_str());
  return false;
}

} // namespace

API int nvrtcVersion(int *major, int *minor) { return *major = 12, *minor = 9, SUCCESS; }
API const char *nvrtcGetErrorString(int) { return "NVRTC_ERROR_COMPILATION"; }
API int nvrtcCreateProgram(Program **program, const char *source, const char *, int,
                           const char *const *, const char *const *) {
  return *program = new Program{source, "", ""}, SUCCESS;
}
API int nvrtcDestroyProgram(Program **program) { return delete *program, SUCCESS; }
API int nvrtcCompileProgram(Program *program, int, const char *const *options) {
  const std::string here = getenv("CARD_SOURCES"), kernels = getenv("CARD_KERNELS");
  const std::string kernel = kernels + "/" + hash(program->source);
  if (!exists(kernel + ".cu")) {
    // Two devices may ask for the same kernel at a time.
    const std::string part = kernel + "." + std::to_string((unsigned long long)program) + ".part";
    FILE *file = fopen(part.c_str(), "w");
    if (!file) return COMPILATION_FAILED;
    fwrite(program->source.data(), 1, program->source.size(), file);
    fclose(file);
    rename(part.c_str(), (kernel + ".cu").c_str());
  }
  if (const char *script = getenv("CARD_NVRTC"))
    if (!exists(kernel + ".ptx") && !succeeds(*program, script, kernel, options[0]))
      return COMPILATION_FAILED;
  const char *runs = getenv("CARD_RUNS");
  if ((!runs || atoi(runs)) && !exists(kernel + ".so") &&
      !succeeds(*program, here + "/translate.py", kernel, ""))
    return COMPILATION_FAILED;
  program->image = "EMULATED:" + kernel + ".so\n";
  return SUCCESS;
}
API int nvrtcGetProgramLogSize(Program *program, size_t *size) {
  return *size = program->log.size() + 1, SUCCESS;
}
API int nvrtcGetProgramLog(Program *program, char *log) {
  return memcpy(log, program->log.c_str(), program->log.size() + 1), SUCCESS;
}
API int nvrtcGetPTXSize(Program *program, size_t *size) {
  return *size = program->image.size() + 1, SUCCESS;
}
API int nvrtcGetPTX(Program *program, char *image) {
  return memcpy(image, program->image.c_str(), program->image.size() + 1), SUCCESS;
}
