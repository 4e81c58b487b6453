import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { homeFiles } from '../../lib/home/index.js'
import { LocalStored } from '../../workers/gateway/stored/local.js'
import { type Door, startDoor } from '../helpers/door.js'
import { spawnGateway, until } from '../helpers/mesh.js'
import { testUnless } from '../helpers/needs.js'
import { NO_SMALL_DISK, SmallDisk } from '../helpers/small-disk.js'

/** What is stored, when its gateway is killed, and when its disk is full. */

const SLOW = { STAND_IN_TOKENS_PER_S: '200', STAND_IN_DIE_AFTER: '0' }

async function ask(door: Door, url: string, path: string, body?: object) {
  const response = await fetch(url + path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${door.key}`, 'content-type': 'application/json' },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

test('a gateway that is killed has every response whose answer came, and no half of one', {
  timeout: 120_000,
}, async (t) => {
  const door = await startDoor(t, { engine: { slots: 8 }, standIn: SLOW })

  const first = await spawnGateway(t, door.home, 'g2')
  const made = await ask(door, first.url, '/v1/responses', { input: 'Hi', background: true, max_output_tokens: 5000 })
  const unfinished = String(made.body.id)
  const answered: string[] = []
  const filler = 'x'.repeat(1000)
  const more = async (): Promise<void> => {
    for (;;) {
      const { body } = await ask(door, first.url, '/v1/responses', { input: filler, max_output_tokens: 1 })
      if (body.store === true) answered.push(String(body.id))
      if (answered.length >= 60) first.child.process.kill('SIGKILL')
    }
  }
  await Promise.allSettled(Array.from({ length: 6 }, more))
  await first.child.exited
  const missed = await until(async () => {
    const { status } = await ask(door, door.url, `/v1/responses/${answered[0]}`)
    return status === 503 && status
  }, 'the other gateway misses it')
  t.is(missed, 503)

  const second = await spawnGateway(t, door.home, 'g2')
  for (const id of answered) {
    const { status, body } = await ask(door, second.url, `/v1/responses/${id}`)
    if (status !== 200 || body.id !== id) t.fail(`${id}: ${status}`)
  }
  t.ok(answered.length >= 60)
  const failed = await until(async () => {
    const { status, body } = await ask(door, door.url, `/v1/responses/${unfinished}`)
    return status === 200 && body
  }, 'the other gateway finds it again')
  t.is(failed.status, 'failed')
  t.is((failed.error as { code: string }).code, 'interrupted')
  const files = readdirSync(join(homeFiles(door.home).worker('gateway', 'g2'), 'stored'))
  t.absent(
    files.some((name) => name.endsWith('.tmp')),
    'nothing half is left',
  )
})

const disk = SmallDisk.make('256k')

testUnless(
  disk === undefined ? NO_SMALL_DISK : undefined,
  'on a full disk nothing says that it is stored, and once there is room it is',
  { timeout: 30_000 },
  async (t) => {
    if (disk === undefined) return
    const failures: string[] = []
    const dir = join(disk.dir, 'stored')
    const local = new LocalStored({
      dir,
      days: 30,
      bytes: 64 * 1024 * 1024,
      hasRoom: () => true,
      keptFrom: () => 0,
      interrupted: (object) => object,
      log: { warn: () => {} },
      failed: (op) => failures.push(op),
      now: Date.now,
    })
    local.open()
    const owner = { keyId: 'k', user: 'u' }
    const put = (id: string) =>
      local.put(owner, {
        id,
        kind: 'response',
        createdAt: Date.now(),
        model: 'm',
        tags: [],
        parts: { object: [JSON.stringify({ id, text: 'x'.repeat(20_000) })] },
      })
    t.ok(await put('before'))
    disk.fill()
    t.absent(await put('during'))
    t.absent(await put('before'), 'nor in place of what is there')
    t.alike(failures, ['write', 'write'])
    t.is(await local.read(owner, 'during', 'object'), undefined)
    t.ok(await local.read(owner, 'before', 'object'), 'which is as it was')
    t.is(readdirSync(dir).length, 1, 'nothing half is left')
    t.ok(await local.delete(owner, 'before'), 'deleting needs no room')
    disk.free()
    t.ok(await put('after'))
    t.ok(await local.read(owner, 'after', 'object'))
    await local.close()
  },
)
