/* SoftHSM with the manners of AWS CloudHSM, as its user guide describes them:
 *
 * - CKM_CLOUDHSM_AES_GCM makes the nonce itself, and puts it in front of the ciphertext;
 *   CKM_AES_GCM takes none from outside.
 * - AES-GCM and HMAC take some 16 KiB at most.
 * - CKM_ECDSA_SHA256 is there.
 * - Uses that a key of its kind cannot have are refused in templates, and false.
 *
 * LABELS_FIXED  if set, no label can be changed.
 * LATE_LABEL    if set, a pending key gets this label right before the second search by a CKA_ID or
 *               a label, as if by a call of somebody else.
 */
#include <dlfcn.h>
#include <p11-kit-1/p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOUDHSM_AES_GCM (CKM_VENDOR_DEFINED | CKM_AES_GCM)
#define SOFTHSM "/usr/lib/softhsm/libsofthsm2.so"
#define NONCE 12
#define TAG 16
#define MAX_DATA 16224
#define MAX_AAD 65536

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST list;

/* What a session is in the midst of. Each is used by one thread only. */
static struct {
    CK_MECHANISM_TYPE mechanism;
    CK_OBJECT_HANDLE key;
    CK_BYTE nonce[NONCE];
    CK_BYTE aad[MAX_AAD];
    CK_ULONG aad_length;
} sessions[64];

#define STATE (&sessions[session % 64])

static CK_RV get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    return real->C_GetMechanismInfo(slot, type == CLOUDHSM_AES_GCM ? CKM_AES_GCM : type, info);
}

static CK_RV get_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *types, CK_ULONG *count)
{
    CK_ULONG room = *count;
    if (types && room < 2)
        return CKR_BUFFER_TOO_SMALL;
    *count = room - 2;
    CK_RV rv = real->C_GetMechanismList(slot, types, count);
    if (types && rv == CKR_OK) {
        types[*count] = CLOUDHSM_AES_GCM;
        types[*count + 1] = CKM_ECDSA_SHA256;
    }
    *count += 2;
    return rv;
}

/* AES-GCM */

static CK_RV gcm_params(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_GCM_PARAMS *params = mechanism->pParameter;
    STATE->mechanism = mechanism->mechanism;
    if (mechanism->mechanism == CKM_AES_GCM)
        return CKR_ARGUMENTS_BAD;
    if (mechanism->mechanism != CLOUDHSM_AES_GCM)
        return CKR_OK;
    if (mechanism->ulParameterLen != sizeof *params || params->pIv || params->ulIvLen
        || params->ulTagBits != 8 * TAG || params->ulAADLen > MAX_AAD)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(STATE->aad, params->pAAD, params->ulAADLen);
    STATE->aad_length = params->ulAADLen;
    STATE->key = key;
    return CKR_OK;
}

static CK_RV gcm_init(CK_SESSION_HANDLE session, CK_C_EncryptInit init)
{
    CK_GCM_PARAMS params = { STATE->nonce, NONCE, 8 * NONCE, STATE->aad, STATE->aad_length, 8 * TAG };
    CK_MECHANISM mechanism = { CKM_AES_GCM, &params, sizeof params };
    return init(session, &mechanism, STATE->key);
}

static CK_RV encrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_RV rv = gcm_params(session, mechanism, key);
    if (rv != CKR_OK)
        return rv;
    if (STATE->mechanism != CLOUDHSM_AES_GCM)
        return real->C_EncryptInit(session, mechanism, key);
    rv = real->C_GenerateRandom(session, STATE->nonce, NONCE);
    return rv == CKR_OK ? gcm_init(session, real->C_EncryptInit) : rv;
}

static CK_RV encrypt(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out,
                     CK_ULONG *out_length)
{
    if (STATE->mechanism != CLOUDHSM_AES_GCM)
        return real->C_Encrypt(session, data, length, out, out_length);
    if (length > MAX_DATA)
        return CKR_DATA_LEN_RANGE;
    if (out) {
        if (*out_length < NONCE)
            return CKR_BUFFER_TOO_SMALL;
        memcpy(out, STATE->nonce, NONCE);
        *out_length -= NONCE;
        out += NONCE;
    }
    CK_RV rv = real->C_Encrypt(session, data, length, out, out_length);
    *out_length += NONCE;
    return rv;
}

static CK_RV decrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_RV rv = gcm_params(session, mechanism, key);
    if (rv != CKR_OK)
        return rv;
    if (STATE->mechanism != CLOUDHSM_AES_GCM)
        return real->C_DecryptInit(session, mechanism, key);
    /* The real nonce comes with the ciphertext; until then this says whether the key may. */
    return gcm_init(session, real->C_DecryptInit);
}

static CK_RV decrypt(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG length, CK_BYTE *out,
                     CK_ULONG *out_length)
{
    if (STATE->mechanism != CLOUDHSM_AES_GCM)
        return real->C_Decrypt(session, data, length, out, out_length);
    if (length < NONCE + TAG)
        return CKR_ENCRYPTED_DATA_LEN_RANGE;
    if (!out)
        return *out_length = length - NONCE, CKR_OK;
    /* Brings what has begun with another nonce to an end, without a result. */
    CK_BYTE none[TAG];
    CK_ULONG zero = sizeof none;
    real->C_Decrypt(session, data, TAG, none, &zero);
    memcpy(STATE->nonce, data, NONCE);
    CK_RV rv = gcm_init(session, real->C_DecryptInit);
    if (rv != CKR_OK)
        return rv;
    rv = real->C_Decrypt(session, data + NONCE, length - NONCE, out, out_length);
    return rv == CKR_GENERAL_ERROR ? CKR_ENCRYPTED_DATA_INVALID : rv;
}

/* ECDSA with SHA-256, and limits for HMAC */

static CK_RV hash(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG length, CK_BYTE digest[32])
{
    CK_MECHANISM sha256 = { CKM_SHA256, NULL, 0 };
    CK_ULONG digest_length = 32;
    CK_RV rv = real->C_DigestInit(session, &sha256);
    return rv == CKR_OK ? real->C_Digest(session, data, length, digest, &digest_length) : rv;
}

/* Asks whether the key may, and lets the session be free again. */
static CK_RV sign_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_MECHANISM ecdsa = { CKM_ECDSA, NULL, 0 };
    CK_BYTE digest[32] = { 0 }, signature[64];
    CK_ULONG length = sizeof signature;
    STATE->mechanism = mechanism->mechanism;
    STATE->key = key;
    if (mechanism->mechanism != CKM_ECDSA_SHA256)
        return real->C_SignInit(session, mechanism, key);
    CK_RV rv = real->C_SignInit(session, &ecdsa, key);
    return rv == CKR_OK ? real->C_Sign(session, digest, 32, signature, &length) : rv;
}

static CK_RV sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG length, CK_BYTE *signature,
                  CK_ULONG *signature_length)
{
    CK_MECHANISM ecdsa = { CKM_ECDSA, NULL, 0 };
    CK_BYTE digest[32];
    if (STATE->mechanism != CKM_ECDSA_SHA256)
        return length > MAX_DATA ? CKR_DATA_LEN_RANGE
                                 : real->C_Sign(session, data, length, signature, signature_length);
    if (!signature)
        return *signature_length = 64, CKR_OK;
    CK_RV rv = hash(session, data, length, digest);
    if (rv == CKR_OK)
        rv = real->C_SignInit(session, &ecdsa, STATE->key);
    return rv == CKR_OK ? real->C_Sign(session, digest, 32, signature, signature_length) : rv;
}

static CK_RV verify_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    CK_MECHANISM ecdsa = { CKM_ECDSA, NULL, 0 };
    CK_BYTE digest[32] = { 0 }, signature[64] = { 0 };
    STATE->mechanism = mechanism->mechanism;
    STATE->key = key;
    if (mechanism->mechanism != CKM_ECDSA_SHA256)
        return real->C_VerifyInit(session, mechanism, key);
    CK_RV rv = real->C_VerifyInit(session, &ecdsa, key);
    if (rv == CKR_OK)
        real->C_Verify(session, digest, 32, signature, 64);
    return rv;
}

static CK_RV verify(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG length, CK_BYTE *signature,
                    CK_ULONG signature_length)
{
    CK_MECHANISM ecdsa = { CKM_ECDSA, NULL, 0 };
    CK_BYTE digest[32];
    if (STATE->mechanism != CKM_ECDSA_SHA256)
        return real->C_Verify(session, data, length, signature, signature_length);
    CK_RV rv = hash(session, data, length, digest);
    if (rv == CKR_OK)
        rv = real->C_VerifyInit(session, &ecdsa, STATE->key);
    return rv == CKR_OK ? real->C_Verify(session, digest, 32, signature, signature_length) : rv;
}

/* Keys */

static CK_ATTRIBUTE_TYPE secret_uses[] = { CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP, 0 };
static CK_ATTRIBUTE_TYPE private_uses[] = { CKA_DECRYPT, CKA_UNWRAP, 0 };
static CK_ATTRIBUTE_TYPE public_uses[] = { CKA_ENCRYPT, CKA_WRAP, 0 };

/* Makes the uses false, or returns 0 where they are named. */
static CK_ULONG without(const CK_ATTRIBUTE_TYPE *uses, const CK_ATTRIBUTE *from, CK_ULONG count,
                        CK_ATTRIBUTE *to)
{
    static CK_BBOOL no = CK_FALSE;
    CK_ULONG total = count;
    memcpy(to, from, count * sizeof *to);
    for (; *uses; uses++) {
        for (CK_ULONG i = 0; i < count; i++)
            if (from[i].type == *uses)
                return 0;
        to[total++] = (CK_ATTRIBUTE){ *uses, &no, sizeof no };
    }
    return total;
}

static CK_RV generate_key(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *template,
                          CK_ULONG count, CK_OBJECT_HANDLE *key)
{
    CK_ATTRIBUTE whole[64];
    if (mechanism->mechanism != CKM_GENERIC_SECRET_KEY_GEN)
        return real->C_GenerateKey(session, mechanism, template, count, key);
    count = without(secret_uses, template, count, whole);
    return count ? real->C_GenerateKey(session, mechanism, whole, count, key)
                 : CKR_ATTRIBUTE_TYPE_INVALID;
}

static CK_RV generate_key_pair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                               CK_ATTRIBUTE *public, CK_ULONG public_count, CK_ATTRIBUTE *private,
                               CK_ULONG private_count, CK_OBJECT_HANDLE *public_key,
                               CK_OBJECT_HANDLE *private_key)
{
    CK_ATTRIBUTE publics[64], privates[64];
    public_count = without(public_uses, public, public_count, publics);
    private_count = without(private_uses, private, private_count, privates);
    if (!public_count || !private_count)
        return CKR_TEMPLATE_INCONSISTENT;
    return real->C_GenerateKeyPair(session, mechanism, publics, public_count, privates,
                                   private_count, public_key, private_key);
}

static CK_RV set_attribute_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                                 CK_ATTRIBUTE *template, CK_ULONG count)
{
    if (getenv("LABELS_FIXED"))
        return CKR_ATTRIBUTE_READ_ONLY;
    return real->C_SetAttributeValue(session, object, template, count);
}

static void label_late(CK_SESSION_HANDLE session, char *label)
{
    CK_ATTRIBUTE from = { CKA_LABEL, "(pending)", 9 }, to = { CKA_LABEL, label, strlen(label) };
    CK_OBJECT_HANDLE objects[2];
    CK_ULONG count = 0;
    real->C_FindObjectsInit(session, &from, 1);
    real->C_FindObjects(session, objects, 2, &count);
    real->C_FindObjectsFinal(session);
    while (count--)
        real->C_SetAttributeValue(session, objects[count], &to, 1);
}

static CK_RV find_objects_init(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count)
{
    static int searches;
    if (getenv("LATE_LABEL") && ++searches == 2)
        label_late(session, getenv("LATE_LABEL"));
    return real->C_FindObjectsInit(session, template, count);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    void *module = dlopen(SOFTHSM, RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = module ? (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList") : NULL;
    if (!get) {
        fprintf(stderr, "%s\n", dlerror());
        return CKR_GENERAL_ERROR;
    }
    CK_RV rv = get(&real);
    if (rv != CKR_OK)
        return rv;
    list = *real;
    list.C_GetMechanismInfo = get_mechanism_info;
    list.C_GetMechanismList = get_mechanism_list;
    list.C_EncryptInit = encrypt_init;
    list.C_Encrypt = encrypt;
    list.C_DecryptInit = decrypt_init;
    list.C_Decrypt = decrypt;
    list.C_SignInit = sign_init;
    list.C_Sign = sign;
    list.C_VerifyInit = verify_init;
    list.C_Verify = verify;
    list.C_GenerateKey = generate_key;
    list.C_GenerateKeyPair = generate_key_pair;
    list.C_SetAttributeValue = set_attribute_value;
    list.C_FindObjectsInit = find_objects_init;
    *out = &list;
    return CKR_OK;
}
