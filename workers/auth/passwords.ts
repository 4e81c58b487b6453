import sodium from 'sodium-universal'

/**
 * Passwords as argon2id in PHC form, at libsodium's interactive limits: 64 MiB and two passes each, about a tenth of a
 * second. `HashQueue` says whose turn it is.
 */

/** @returns such as `$argon2id$v=19$m=65536,t=2,p=1$…`, with its own salt and limits in it */
export async function hashPassword(password: string): Promise<string> {
  const out = Buffer.alloc(sodium.crypto_pwhash_STRBYTES)
  await sodium.crypto_pwhash_str_async(
    out,
    Buffer.from(password),
    sodium.crypto_pwhash_OPSLIMIT_INTERACTIVE,
    sodium.crypto_pwhash_MEMLIMIT_INTERACTIVE,
  )
  return out.toString('utf8').replace(/\0+$/, '')
}

/** Whether the password is the one that was hashed; false also for what is no such hash. */
export async function verifyPassword(password: string, hash: string): Promise<boolean> {
  const stored = Buffer.alloc(sodium.crypto_pwhash_STRBYTES)
  if (stored.write(hash) >= stored.byteLength) return false
  return sodium.crypto_pwhash_str_verify_async(stored, Buffer.from(password))
}
