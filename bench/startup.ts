import { execFileSync } from 'node:child_process'
import { MeshClient } from '../lib/client/index.js'
import { ROLES } from '../lib/protocol/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { atMost, benchHome, CLI, type Figure, readStatus, residentMb } from './harness.js'

/** From `npm start` to ready, the first prompt after it, and what the idle workers weigh. */
export async function startup(): Promise<Figure[]> {
  const home = benchHome()
  const startedAt = performance.now()
  execFileSync(
    'npm',
    ['start', '--silent', '--', '--home', home, '--detach', '--json', '--http-port', '0', '--metrics-port', '0'],
    { cwd: PACKAGE_ROOT, stdio: ['ignore', 'ignore', 'inherit'] },
  )
  const readyMs = performance.now() - startedAt
  try {
    const client = await MeshClient.connect({ home })
    const askedAt = performance.now()
    let firstMs = Number.NaN
    for await (const chunk of client.chat({
      messages: [{ role: 'user', content: 'Write a haiku about technology' }],
    })) {
      if (chunk.ids.length === 0) continue
      firstMs = performance.now() - askedAt
      break
    }
    await client.close()
    await new Promise((resolve) => setTimeout(resolve, 5000))
    const memory = ROLES.map((role) => {
      const bound = role === 'processor' ? 250 : 130
      return atMost(
        `idle memory: ${role}${role === 'processor' ? ' with its engine' : ''}`,
        residentMb(readStatus(home, role).pid),
        bound,
        'MB',
        0,
      )
    })
    return [
      atMost('npm start to ready', readyMs / 1000, 5, 's', 2),
      atMost('first prompt’s first token after that', firstMs, 300, 'ms', 0),
      ...memory,
    ]
  } finally {
    execFileSync(process.execPath, [CLI, 'down', '--home', home], { stdio: 'ignore' })
  }
}
