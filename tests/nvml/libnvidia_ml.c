/* A stand-in for libnvidia-ml.so.1: the functions that UGRO's readings call through nvidia-ml-py, for two GPUs.
 *
 * UGRO_TEST_NVML names the state: healthy (default), hot, ecc, lost, lost_late, not_supported, mismatch, no_driver,
 * processes, hang. Where that is not set, the file /run/ugro-test-nvml does, read anew at every call, so that the state
 * can change while a program runs. PIDs of `processes` come from UGRO_TEST_PIDS ("compute,graphics"), or are the second
 * word of that file. `lost_late` is about GPU 1, or the one that the second word of that file names. Where hosts of
 * one cluster have a stand-in each, /etc/ugro-test-nvml holds the eight digits with which the host's UUIDs begin.
 * Return codes and structures are those of nvml.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUCCESS 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define INSUFFICIENT_SIZE 7
#define DRIVER_NOT_LOADED 9
#define GPU_IS_LOST 15
#define LIB_RM_VERSION_MISMATCH 18

typedef struct { int index; } device;
typedef struct { unsigned long long total, free, used; } memory_info;
typedef struct { unsigned int gpu, memory; } utilization;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu_instance, compute_instance; } process_info;

static device devices[2] = {{0}, {1}};
static int inits;

static char word[64], pids_word[64];

static void read_file(void) {
    FILE *file = fopen("/run/ugro-test-nvml", "r");
    strcpy(word, "healthy");
    pids_word[0] = 0;
    if (!file) return;
    if (fscanf(file, "%63s %63s", word, pids_word) < 1) strcpy(word, "healthy");
    fclose(file);
}

static int state(const char *name) {
    const char *value = getenv("UGRO_TEST_NVML");
    if (!value || !*value) {
        read_file();
        value = word;
    }
    return !strcmp(value, name);
}

/* What every reading of a device answers first. */
static int answer(device *gpu) {
    pids_word[0] = 0;
    if (state("lost_late") && gpu->index == (pids_word[0] ? atoi(pids_word) : 1)) return GPU_IS_LOST;
    return SUCCESS;
}

static int optional(device *gpu) {
    int code = answer(gpu);
    return code ? code : state("not_supported") ? NOT_SUPPORTED : SUCCESS;
}

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    inits++;
    if (state("mismatch")) return LIB_RM_VERSION_MISMATCH;
    if (state("no_driver")) return DRIVER_NOT_LOADED;
    if (state("hang")) sleep(600);
    return SUCCESS;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case SUCCESS: return "The operation was successful";
    case NOT_SUPPORTED: return "Not Supported";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case LIB_RM_VERSION_MISMATCH: return "RM has detected an NVML/RM version mismatch.";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    snprintf(version, length, "550.54.14");
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 12040;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = 2;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device **gpu) {
    if (index > 1) return INVALID_ARGUMENT;
    if (state("lost") && index == 1) return GPU_IS_LOST;
    *gpu = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(device *gpu, char *uuid, unsigned int length) {
    char host[9] = "00000000";
    FILE *file = fopen("/etc/ugro-test-nvml", "r");
    if (file) {
        if (fscanf(file, "%8s", host) < 1) strcpy(host, "00000000");
        fclose(file);
    }
    snprintf(uuid, length, "GPU-%s-0000-0000-0000-00000000000%d", host, gpu->index);
    return SUCCESS;
}

int nvmlDeviceGetName(device *gpu, char *name, unsigned int length) {
    snprintf(name, length, gpu->index ? "NVIDIA GeForce RTX 4060" : "NVIDIA GeForce RTX 4070");
    return SUCCESS;
}

typedef struct {
    char legacy[16];
    unsigned int domain, bus, device, id, subsystem;
    char address[32];
} pci_info;

int nvmlDeviceGetPciInfo_v3(device *gpu, pci_info *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = gpu->index + 1;
    snprintf(pci->address, sizeof pci->address, "00000000:%02X:00.0", gpu->index + 1);
    return answer(gpu);
}

int nvmlDeviceGetMemoryInfo(device *gpu, memory_info *memory) {
    memory->total = (gpu->index ? 8188ULL : 12282ULL) << 20;
    memory->used = 1024ULL << 20;
    memory->free = memory->total - memory->used;
    return answer(gpu);
}

int nvmlDeviceGetUtilizationRates(device *gpu, utilization *rates) {
    rates->gpu = 87;
    rates->memory = 40;
    return optional(gpu);
}

int nvmlDeviceGetTemperature(device *gpu, int sensor, unsigned int *celsius) {
    (void)sensor;
    *celsius = state("hot") ? 97 : 61;
    return optional(gpu);
}

int nvmlDeviceGetPowerUsage(device *gpu, unsigned int *milliwatts) {
    /* The number of initialisations shows in the digits, so that a test sees whether NVML was opened again. */
    *milliwatts = 181000 + 100 * inits;
    return optional(gpu);
}

int nvmlDeviceGetEnforcedPowerLimit(device *gpu, unsigned int *milliwatts) {
    *milliwatts = 200000;
    return optional(gpu);
}

int nvmlDeviceGetClockInfo(device *gpu, int type, unsigned int *mhz) {
    *mhz = type == 2 ? 10501 : 2475;
    return optional(gpu);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(device *gpu, unsigned long long *mask) {
    *mask = state("hot") ? 0x8 | 0x40 : 0x4;
    return optional(gpu);
}

int nvmlDeviceGetTotalEccErrors(device *gpu, int kind, int counter, unsigned long long *count) {
    (void)counter;
    *count = kind ? 3 : 12;
    return answer(gpu) ? answer(gpu) : state("ecc") ? SUCCESS : NOT_SUPPORTED;
}

static int number(device *gpu, unsigned int *value, unsigned int is) {
    *value = is;
    return optional(gpu);
}

int nvmlDeviceGetCurrPcieLinkGeneration(device *gpu, unsigned int *value) { return number(gpu, value, 3); }
int nvmlDeviceGetMaxPcieLinkGeneration(device *gpu, unsigned int *value) { return number(gpu, value, 4); }
int nvmlDeviceGetCurrPcieLinkWidth(device *gpu, unsigned int *value) { return number(gpu, value, 8); }
int nvmlDeviceGetMaxPcieLinkWidth(device *gpu, unsigned int *value) { return number(gpu, value, 16); }

/* nvmlDeviceGetMigMode is left out on purpose: an old driver does not have every function. */

static int processes(device *gpu, unsigned int *count, process_info *list, int position, unsigned long long used) {
    const char *pids = getenv("UGRO_TEST_PIDS");
    int on = state("processes");
    if (!pids && pids_word[0]) pids = pids_word;
    if (!on || gpu->index || !pids) {
        *count = 0;
        return optional(gpu);
    }
    if (!list || *count < 1) {
        *count = 1;
        return INSUFFICIENT_SIZE;
    }
    *count = 1;
    list[0] = (process_info){position ? atoi(strchr(pids, ',') + 1) : atoi(pids), used, 0xFFFFFFFFu, 0xFFFFFFFFu};
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device *gpu, unsigned int *count, process_info *list) {
    return processes(gpu, count, list, 0, 4096ULL << 20);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(device *gpu, unsigned int *count, process_info *list) {
    return processes(gpu, count, list, 1, ~0ULL); /* NVML_VALUE_NOT_AVAILABLE */
}
