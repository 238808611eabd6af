/**
 * AES-256-GCM over whole entries. The bytes are the nonce (12), the cipher text, the tag (16); what is authenticated
 * besides is the entry's format, so an entry cannot be passed off as one of another format or key. Gotcha: nonces are
 * random, so a key should be replaced before it has written about four thousand million entries.
 */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from "node:crypto"
import { Redacted } from "effect"
import { checkPart, refused, TooLarge, type Transform } from "./transform.ts"

export interface EncryptionKey {
  /** Stored with each entry that this key wrote. */
  readonly id: string
  /** 32 bytes. */
  readonly key: Redacted.Redacted<Uint8Array>
}

const cipher = "aes-256-gcm"
const nonceBytes = 12
const tagBytes = 16

/** The first key encrypts, all of them decrypt. */
export const encryption = (keys: ReadonlyArray<EncryptionKey>): Transform => {
  const byId = new Map<string, KeyObject>()
  for (const { id, key } of keys) {
    checkPart("encrypted: a key id", id)
    if (byId.has(id)) throw refused(`encrypted: two keys have the id "${id}": give each key an id of its own`)
    byId.set(id, secretKey(id, key))
  }
  const first = keys[0]
  if (first === undefined) throw refused("encrypted: there is no key: give at least one")
  const name = `aes:${first.id}`
  const writing = byId.get(first.id)!
  return {
    name,
    apply: (bytes, before) => {
      const nonce = randomBytes(nonceBytes)
      const encrypt = createCipheriv(cipher, writing, nonce, { authTagLength: tagBytes })
      encrypt.setAAD(Buffer.from(`${before}+${name}`))
      const text = encrypt.update(bytes)
      encrypt.final()
      return Buffer.concat([nonce, text, encrypt.getAuthTag()])
    },
    undo: (bytes, stored, limit, before) => {
      const id = stored.slice(stored.indexOf(":") + 1)
      const key = byId.get(id)
      if (key === undefined) throw new Error(missingKey(stored))
      const length = bytes.length - nonceBytes - tagBytes
      if (length > limit) throw new TooLarge(length, limit)
      if (length < 0) throw new Error(`it says that it is encrypted with key "${id}", and is too short for that`)
      return decrypt(key, id, bytes, Buffer.from(`${before}+${stored}`))
    }
  }
}

/** What a reader without the key of a stored name like `aes:key-1` says. */
export const missingKey = (stored: string): string =>
  `it is encrypted with key "${stored.slice(stored.indexOf(":") + 1)}", which this reader does not have: ` +
  `add it to the keys of Serializer.encrypted`

const decrypt = (key: KeyObject, id: string, bytes: Uint8Array, format: Uint8Array): Uint8Array => {
  const end = bytes.length - tagBytes
  const decipher = createDecipheriv(cipher, key, bytes.subarray(0, nonceBytes), { authTagLength: tagBytes })
  decipher.setAAD(format)
  decipher.setAuthTag(bytes.subarray(end))
  const text = decipher.update(bytes.subarray(nonceBytes, end))
  try {
    decipher.final()
  } catch {
    throw new Error(
      `it cannot be decrypted: key "${id}" here is not the one that wrote it, or the entry was changed since`
    )
  }
  return text
}

const secretKey = (id: string, key: Redacted.Redacted<Uint8Array>): KeyObject => {
  const bytes: unknown = Redacted.isRedacted(key) ? Redacted.value(key) : undefined
  if (!(bytes instanceof Uint8Array)) {
    throw refused(`encrypted: key "${id}" is no Redacted Uint8Array: wrap its 32 bytes in Redacted.make`)
  }
  if (bytes.length !== 32) {
    throw refused(`encrypted: key "${id}" has ${bytes.length} bytes: AES-256 takes exactly 32`)
  }
  return createSecretKey(bytes)
}
