import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { ERROR_CODES } from '../lib/errors/errors.js'
import { MeshError } from '../lib/protocol/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'

test('docs/errors.md lists every code with its HTTP status and exit code, and no other', (t) => {
  const docs = readFileSync(join(PACKAGE_ROOT, 'docs', 'errors.md'), 'utf8')
  const rows = ERROR_CODES.map((code) => {
    const { httpStatus, exitCode } = MeshError[code]('x')
    return `| \`${code}\` | ${httpStatus} | ${exitCode} |`
  })
  t.alike([...docs.matchAll(/^\| `[A-Z_]+` \| \d+ \| \d+ \|/gm)].map(([row]) => row).sort(), rows.sort())
})

test('an error crosses the wire with its code, message and details', (t) => {
  const sent = MeshError.RATE_LIMITED('too many', { retryAfterMs: 1500, requestId: 'r' })
  const read = MeshError.fromJSON(JSON.parse(JSON.stringify(sent)))
  t.ok(read instanceof MeshError)
  t.is(read.code, 'RATE_LIMITED')
  t.is(read.message, 'too many')
  t.is(read.retryAfterMs, 1500)
})

test('an error body that cannot be read becomes INTERNAL and nothing else', (t) => {
  for (const body of [
    null,
    7,
    'x',
    {},
    { code: 'toString', message: 'x' },
    { code: 'NOPE', message: 'x' },
    { code: 'BUSY' },
  ]) {
    t.is(MeshError.fromJSON(body).code, 'INTERNAL')
  }
  t.alike(MeshError.fromJSON({ code: 'BUSY', message: 'x', details: 'y' }).details, {})
})
