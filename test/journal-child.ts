import { join } from 'node:path'
import Corestore from 'corestore'
import { JournalWriter } from '../workers/gateway/journal.js'

/** Appends records as fast as it can and says how many were acknowledged, until it is killed. Usage: node journal-child.js <dir> <run> */
const [, , dir = '', run = ''] = process.argv
const at = Date.UTC(2026, 0, 31, 12)

const store = new Corestore(join(dir, 'store'))
const core = store.get({ name: 'journal' })
await core.ready()
const journal = new JournalWriter(core, { dir, clock: () => at })
await journal.open()

let count = 0
setInterval(() => {
  for (let i = 0; i < 5; i++) {
    journal.append({
      requestId: `req_${run}_${count}`,
      at,
      keyId: 'k1',
      user: 'ann',
      model: 'm',
      kind: 'chat',
      promptTokens: 1,
      cachedTokens: 0,
      completionTokens: 1,
      outcome: 'stop',
      queueMs: 0,
      totalMs: 1,
    })
    count++
  }
  process.send?.(count)
}, 1)
