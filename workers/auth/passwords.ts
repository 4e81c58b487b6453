import sodium from 'sodium-universal'

/**
 * Passwords as argon2id in PHC form, at libsodium's interactive limits: 64 MiB and two passes each. One is hashed at a
 * time, because the thread pool that hashes is also the one that the stores write with.
 */

let last: Promise<unknown> = Promise.resolve()

function oneAtATime<T>(work: () => Promise<T>): Promise<T> {
  const result = last.then(work)
  last = result.catch(() => {})
  return result
}

/** @returns such as `$argon2id$v=19$m=65536,t=2,p=1$…`, with its own salt and limits in it */
export function hashPassword(password: string): Promise<string> {
  return oneAtATime(async () => {
    const out = Buffer.alloc(sodium.crypto_pwhash_STRBYTES)
    await sodium.crypto_pwhash_str_async(
      out,
      Buffer.from(password),
      sodium.crypto_pwhash_OPSLIMIT_INTERACTIVE,
      sodium.crypto_pwhash_MEMLIMIT_INTERACTIVE,
    )
    return out.toString('utf8').replace(/\0+$/, '')
  })
}

/** Whether the password is the one that was hashed; false also for what is no such hash. */
export function verifyPassword(password: string, hash: string): Promise<boolean> {
  return oneAtATime(async () => {
    const stored = Buffer.alloc(sodium.crypto_pwhash_STRBYTES)
    if (stored.write(hash) >= stored.byteLength) return false
    return sodium.crypto_pwhash_str_verify_async(stored, Buffer.from(password))
  })
}
