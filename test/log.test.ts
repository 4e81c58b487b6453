import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { openLog } from '../lib/worker-base/log.js'
import { testUnless } from './helpers/needs.js'

const missing = existsSync('/dev/full') ? undefined : 'there is no /dev/full here'

testUnless(missing, 'a log on a full disk loses its lines, and ends nothing', {}, async (t) => {
  const options = { level: 'info', role: 'gateway', name: 'g1', terminal: false } as const
  const log = await openLog({ ...options, file: '/dev/full' })
  for (let i = 0; i < 3; i++) log.info({ i }, 'a line')
  t.pass('nothing was thrown')
})

test('a log is JSON lines, without what is secret', async (t) => {
  const file = join(await t.tmp(), 'logs', 'x.log')
  const log = await openLog({ level: 'info', role: 'gateway', name: 'g1', file, terminal: false })
  log.info({ key: 'im_x', nested: { password: 'p' } }, 'a line')
  log.debug('not told')
  const [line, ...rest] = readFileSync(file, 'utf8').trim().split('\n')
  t.alike(rest, [])
  const told: unknown = JSON.parse(line ?? '')
  t.ok(typeof told === 'object' && told !== null && 'msg' in told && told.msg === 'a line')
  t.absent(/im_x|"p"/.test(line ?? ''))
})
