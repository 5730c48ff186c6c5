/* A PKCS#11 module that passes every call on to another, notes it, and fails where it is told to.
 *
 * SHIM_MODULE  the module that does the work
 * SHIM_LOG     gets a line with the name of each call
 * SHIM_FAULTS  is read at each call; a line is: FUNCTION ACTION [COUNT [SKIP]]
 *
 * ACTION:      0xN        return N, and do nothing
 *              after:0xN  do it, and return N nevertheless
 *              crash      die of SIGSEGV
 *              hang       never return
 *              slow:MS    wait so many milliseconds first
 *
 * COUNT says how often (default: always), after SKIP calls that go well. Both are counted down in
 * the file, over all processes that use it, and keep their width: write 1 as 01 where it is to
 * become 10, and so on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <p11-kit-1/p11-kit/pkcs11.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

typedef CK_ATTRIBUTE A;
typedef CK_BYTE B;
typedef CK_MECHANISM M;
typedef CK_ULONG N;
typedef CK_OBJECT_HANDLE O;
typedef CK_SESSION_HANDLE S;
typedef CK_SLOT_ID SLOT;

/* The functions of PKCS#11 2.40, in the order of its list: how many parameters, and their types. */
#define FUNCTIONS(F) \
    F(1, C_Initialize, void *) \
    F(1, C_Finalize, void *) \
    F(1, C_GetInfo, CK_INFO *) \
    F(1, C_GetFunctionList, CK_FUNCTION_LIST **) \
    F(3, C_GetSlotList, B, SLOT *, N *) \
    F(2, C_GetSlotInfo, SLOT, CK_SLOT_INFO *) \
    F(2, C_GetTokenInfo, SLOT, CK_TOKEN_INFO *) \
    F(3, C_GetMechanismList, SLOT, CK_MECHANISM_TYPE *, N *) \
    F(3, C_GetMechanismInfo, SLOT, CK_MECHANISM_TYPE, CK_MECHANISM_INFO *) \
    F(4, C_InitToken, SLOT, B *, N, B *) \
    F(3, C_InitPIN, S, B *, N) \
    F(5, C_SetPIN, S, B *, N, B *, N) \
    F(5, C_OpenSession, SLOT, CK_FLAGS, void *, CK_NOTIFY, CK_SESSION_HANDLE *) \
    F(1, C_CloseSession, S) \
    F(1, C_CloseAllSessions, SLOT) \
    F(2, C_GetSessionInfo, S, CK_SESSION_INFO *) \
    F(3, C_GetOperationState, S, B *, N *) \
    F(5, C_SetOperationState, S, B *, N, O, O) \
    F(4, C_Login, S, CK_USER_TYPE, B *, N) \
    F(1, C_Logout, S) \
    F(4, C_CreateObject, S, A *, N, O *) \
    F(5, C_CopyObject, S, O, A *, N, O *) \
    F(2, C_DestroyObject, S, O) \
    F(3, C_GetObjectSize, S, O, N *) \
    F(4, C_GetAttributeValue, S, O, A *, N) \
    F(4, C_SetAttributeValue, S, O, A *, N) \
    F(3, C_FindObjectsInit, S, A *, N) \
    F(4, C_FindObjects, S, O *, N, N *) \
    F(1, C_FindObjectsFinal, S) \
    F(3, C_EncryptInit, S, M *, O) \
    F(5, C_Encrypt, S, B *, N, B *, N *) \
    F(5, C_EncryptUpdate, S, B *, N, B *, N *) \
    F(3, C_EncryptFinal, S, B *, N *) \
    F(3, C_DecryptInit, S, M *, O) \
    F(5, C_Decrypt, S, B *, N, B *, N *) \
    F(5, C_DecryptUpdate, S, B *, N, B *, N *) \
    F(3, C_DecryptFinal, S, B *, N *) \
    F(2, C_DigestInit, S, M *) \
    F(5, C_Digest, S, B *, N, B *, N *) \
    F(3, C_DigestUpdate, S, B *, N) \
    F(2, C_DigestKey, S, O) \
    F(3, C_DigestFinal, S, B *, N *) \
    F(3, C_SignInit, S, M *, O) \
    F(5, C_Sign, S, B *, N, B *, N *) \
    F(3, C_SignUpdate, S, B *, N) \
    F(3, C_SignFinal, S, B *, N *) \
    F(3, C_SignRecoverInit, S, M *, O) \
    F(5, C_SignRecover, S, B *, N, B *, N *) \
    F(3, C_VerifyInit, S, M *, O) \
    F(5, C_Verify, S, B *, N, B *, N) \
    F(3, C_VerifyUpdate, S, B *, N) \
    F(3, C_VerifyFinal, S, B *, N) \
    F(3, C_VerifyRecoverInit, S, M *, O) \
    F(5, C_VerifyRecover, S, B *, N, B *, N *) \
    F(5, C_DigestEncryptUpdate, S, B *, N, B *, N *) \
    F(5, C_DecryptDigestUpdate, S, B *, N, B *, N *) \
    F(5, C_SignEncryptUpdate, S, B *, N, B *, N *) \
    F(5, C_DecryptVerifyUpdate, S, B *, N, B *, N *) \
    F(5, C_GenerateKey, S, M *, A *, N, O *) \
    F(8, C_GenerateKeyPair, S, M *, A *, N, A *, N, O *, O *) \
    F(6, C_WrapKey, S, M *, O, O, B *, N *) \
    F(8, C_UnwrapKey, S, M *, O, B *, N, A *, N, O *) \
    F(6, C_DeriveKey, S, M *, O, A *, N, O *) \
    F(3, C_SeedRandom, S, B *, N) \
    F(3, C_GenerateRandom, S, B *, N) \
    F(1, C_GetFunctionStatus, S) \
    F(1, C_CancelFunction, S) \
    F(3, C_WaitForSlotEvent, CK_FLAGS, SLOT *, void *)

static CK_FUNCTION_LIST *real;

static void die(const char *what)
{
    perror(what);
    abort();
}

static void note(const char *name)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%s\n", name);
    int fd = open(getenv("SHIM_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, length) != length)
        die("SHIM_LOG");
    close(fd);
}

/* Counts a number in the file down by one, unless it is 0. Returns whether it was more. */
static int count_down(int fd, const char *file, const char *digits)
{
    int width = strspn(digits, "0123456789");
    long value = strtol(digits, NULL, 10);
    char less[32];
    if (value == 0)
        return 0;
    snprintf(less, sizeof less, "%0*ld", width, value - 1);
    if (pwrite(fd, less, width, digits - file) != width)
        die("SHIM_FAULTS");
    return 1;
}

/* What the file wants of this call; empty if nothing. */
static void look_up(const char *name, char action[32])
{
    char file[4096];
    action[0] = 0;
    int fd = open(getenv("SHIM_FAULTS"), O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    flock(fd, LOCK_EX);
    ssize_t length = read(fd, file, sizeof file - 1);
    file[length < 0 ? 0 : length] = 0;
    for (char *line = file; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char function[64], wanted[32];
        int count = 0, skip = 0;
        if (sscanf(line, "%63s %31s%*[ ]%n%*[0-9]%*[ ]%n", function, wanted, &count, &skip) < 2
            || strcmp(function, name) != 0)
            continue;
        if (skip && strchr("0123456789", line[skip]) && count_down(fd, file, line + skip))
            break;
        if (count && strchr("0123456789", line[count]) && !count_down(fd, file, line + count))
            continue;
        strcpy(action, wanted);
        break;
    }
    close(fd);
}

/* Notes the call and does what is wanted. Returns whether it is to go on; if not, with *rv. */
static int enter(const char *name, char action[32], CK_RV *rv)
{
    note(name);
    look_up(name, action);
    if (strcmp(action, "crash") == 0) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    } else if (strcmp(action, "hang") == 0) {
        for (;;)
            pause();
    } else if (strncmp(action, "slow:", 5) == 0) {
        long ms = strtol(action + 5, NULL, 10);
        struct timespec wait = { ms / 1000, ms % 1000 * 1000000 };
        nanosleep(&wait, NULL);
    } else if (strncmp(action, "0x", 2) == 0) {
        *rv = strtoul(action, NULL, 16);
        return 0;
    }
    return 1;
}

static CK_RV leave(const char *action, CK_RV rv)
{
    return strncmp(action, "after:", 6) == 0 ? strtoul(action + 6, NULL, 16) : rv;
}

#define PARAMETERS_1(T1) T1 a
#define PARAMETERS_2(T1, T2) T1 a, T2 b
#define PARAMETERS_3(T1, T2, T3) T1 a, T2 b, T3 c
#define PARAMETERS_4(T1, T2, T3, T4) T1 a, T2 b, T3 c, T4 d
#define PARAMETERS_5(T1, T2, T3, T4, T5) T1 a, T2 b, T3 c, T4 d, T5 e
#define PARAMETERS_6(T1, T2, T3, T4, T5, T6) T1 a, T2 b, T3 c, T4 d, T5 e, T6 f
#define PARAMETERS_7(T1, T2, T3, T4, T5, T6, T7) T1 a, T2 b, T3 c, T4 d, T5 e, T6 f, T7 g
#define PARAMETERS_8(T1, T2, T3, T4, T5, T6, T7, T8) T1 a, T2 b, T3 c, T4 d, T5 e, T6 f, T7 g, T8 h
#define ARGUMENTS_1 a
#define ARGUMENTS_2 a, b
#define ARGUMENTS_3 a, b, c
#define ARGUMENTS_4 a, b, c, d
#define ARGUMENTS_5 a, b, c, d, e
#define ARGUMENTS_6 a, b, c, d, e, f
#define ARGUMENTS_7 a, b, c, d, e, f, g
#define ARGUMENTS_8 a, b, c, d, e, f, g, h

#define WRAP(count, name, ...)                                     \
    static CK_RV shim_##name(PARAMETERS_##count(__VA_ARGS__))      \
    {                                                              \
        char action[32];                                           \
        CK_RV rv;                                                  \
        if (!enter(#name, action, &rv))                            \
            return rv;                                             \
        return leave(action, real->name(ARGUMENTS_##count));       \
    }

FUNCTIONS(WRAP)

#define MEMBER(count, name, ...) .name = shim_##name,

static CK_FUNCTION_LIST list = { { 2, 40 }, FUNCTIONS(MEMBER) };

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    void *module = dlopen(getenv("SHIM_MODULE"), RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = module ? (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList") : NULL;
    if (!get) {
        fprintf(stderr, "SHIM_MODULE: %s\n", dlerror());
        return CKR_GENERAL_ERROR;
    }
    *out = &list;
    return get(&real);
}
