import { setTimeout as sleep } from 'node:timers/promises'
import { MeshClient, MeshError } from '../lib/client/index.js'
import { atMost, type Figure, quantile, startMesh } from './harness.js'

const ROUNDS = 10
const CHECKS = 2000

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
    await admin.admin.members.remove({ member: 'processor/processor' })
    const removedAt = performance.now()
    await until(async () => (await admin.models()).every(({ processors }) => processors.length === 0), true)
    const removedMs = performance.now() - removedAt
    return [
      atMost('a revoked key is refused after, slowest of 10', Math.max(...revoked), 1000, 'ms'),
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
