import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Corestore from 'corestore'
import { MeshClient, MeshError } from '../lib/client/index.js'
import { hashSecret, newApiKey } from '../lib/protocol/index.js'
import { Accounts, accountKeys } from '../lib/store/index.js'
import { atMost, benchHome, type Figure, quantile, startMesh } from './harness.js'

const ROUNDS = 10
const CHECKS = 2000
const KEYS = 10_000

/** Times the check of a key as a gateway makes it, among many keys. Milliseconds. */
async function timeKeyChecks(): Promise<number[]> {
  const store = new Corestore(join(benchHome(), 'store'))
  const accounts = new Accounts(store.get({ name: 'accounts' }))
  const texts: string[] = []
  await accounts.bee.ready()
  const batch = accounts.bee.batch()
  const user = { name: 'ann', role: 'user', limits: {}, createdAt: 0 }
  await batch.put(accountKeys.user('ann'), Buffer.from(JSON.stringify(user)))
  for (let i = 0; i < KEYS; i++) {
    const { id, secret, text } = newApiKey()
    texts.push(text)
    const key = { id, user: 'ann', secretHash: hashSecret(secret), limits: {}, createdAt: 0 }
    await batch.put(accountKeys.apiKey(id), Buffer.from(JSON.stringify(key)))
  }
  await batch.flush()
  await accounts.open()
  const times = texts.map((text) => {
    const startedAt = performance.now()
    accounts.authenticate(text)
    return performance.now() - startedAt
  })
  await accounts.close()
  await store.close()
  return times
}

/** How fast what the authority decides takes hold. */
export async function trust(): Promise<Figure[]> {
  const mesh = await startMesh({ roles: ['auth', 'gateway', 'processor'] })
  try {
    const admin = mesh.client()
    await admin.connect()
    const revoked: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const { id, key } = await admin.admin.keys.create({})
      const user = new MeshClient({ home: mesh.home, key })
      await until(() => isServed(user), true)
      await admin.admin.keys.revoke({ id })
      const revokedAt = performance.now()
      await until(() => isServed(user), false)
      revoked.push(performance.now() - revokedAt)
      await user.close()
    }
    const checks: number[] = []
    for (let i = 0; i < CHECKS; i++) {
      const startedAt = performance.now()
      await admin.usage()
      checks.push(performance.now() - startedAt)
    }
    const keyChecks = await timeKeyChecks()
    await admin.admin.members.remove({ member: 'processor/processor' })
    const removedAt = performance.now()
    await until(async () => (await admin.models()).every(({ processors }) => processors.length === 0), true)
    const removedMs = performance.now() - removedAt
    return [
      atMost('a revoked key is refused after, slowest of 10', Math.max(...revoked), 1000, 'ms'),
      atMost(`key check among ${KEYS} keys, p99`, quantile(keyChecks, 0.99), 1, 'ms', 3),
      atMost('a removed member’s links are cut after', removedMs, 1000, 'ms'),
      {
        what: 'unary call with its key checked, p50 / p99',
        value: `${quantile(checks, 0.5).toFixed(2)} / ${quantile(checks, 0.99).toFixed(2)} ms`,
      },
    ]
  } finally {
    await mesh.stop()
  }
}

async function isServed(client: MeshClient): Promise<boolean> {
  try {
    await client.models()
    return true
  } catch (err) {
    if (err instanceof MeshError && err.code === 'INVALID_API_KEY') return false
    throw err
  }
}

async function until(read: () => Promise<boolean>, wanted: boolean): Promise<void> {
  const deadline = Date.now() + 10_000
  while ((await read()) !== wanted) {
    if (Date.now() > deadline) throw new Error('It did not take hold within 10 s')
    await sleep(2)
  }
}
