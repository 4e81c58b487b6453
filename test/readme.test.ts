import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { testUnless } from './helpers/needs.js'

/** The README's examples of the OpenAI door, run as they stand: with the default ports and the default home. */

const run = promisify(execFile)
const MAIN = join(PACKAGE_ROOT, 'dist', 'cli', 'main.js')
const PORTS = [8080, 9464]
const READY_MS = 60_000

/** Examples are the blocks behind `<!-- example: name -->`. */
function examples(): Map<string, { language: string; code: string }> {
  const readme = readFileSync(join(PACKAGE_ROOT, 'README.md'), 'utf8')
  const found = readme.matchAll(/<!-- example: (\w+) -->\n```(\w+)\n([\s\S]+?)```/g)
  return new Map(
    [...found].map(([, name, language, code]) => [
      name as string,
      { language: language as string, code: code as string },
    ]),
  )
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

const taken = (await Promise.all(PORTS.map(isFree))).includes(false)
const reason = taken ? `one of the ports ${PORTS.join(' and ')} is in use` : undefined

testUnless(
  reason,
  'curl, the OpenAI SDK and mesh.fetch work as the README shows them',
  { timeout: 120_000 },
  async (t) => {
    const { INFERMESH_HOME: _, INFERMESH_KEY: __, INFERMESH_MESH: ___, ...rest } = process.env
    const env = { ...rest, HOME: await t.tmp() }
    t.teardown(() => execFileSync(process.execPath, [MAIN, 'down'], { env, stdio: 'ignore' }))
    await run(process.execPath, [MAIN, 'up', '--detach'], { env, timeout: READY_MS })
    const blocks = examples()
    t.alike([...blocks.keys()], ['curl', 'openai', 'fetch'])
    for (const [name, { language, code }] of blocks) {
      const [command, args] =
        language === 'sh' ? ['bash', ['-euc', code]] : [process.execPath, ['--input-type=module', '-e', code]]
      const { stdout } = await run(command as string, args as string[], { env, cwd: PACKAGE_ROOT, timeout: READY_MS })
      t.ok(/Paris/.test(stdout), `${name}: ${stdout.slice(0, 200)}`)
    }
  },
)
