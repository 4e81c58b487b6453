import { execFileSync } from 'node:child_process'
import { MeshClient } from '../lib/client/index.js'
import { ROLES } from '../lib/protocol/index.js'
import { atMost, benchHome, CLI, type Figure, quantile, readStatus, residentMb } from './harness.js'

const STARTS = 5
const COMMANDS = 7
const IDLE_MS = 5000

/** From the command to its end, as a person waits for it: `up --detach` with its first question, `run`, `status`. */
export async function startup(): Promise<Figure[]> {
  const fresh: number[] = []
  const again: number[] = []
  for (let i = 0; i < STARTS; i++) {
    const home = benchHome()
    fresh.push(up(home))
    down(home)
    again.push(up(home))
    down(home)
  }
  const home = benchHome()
  up(home)
  try {
    const firstMs = await firstToken(home)
    const run = repeat(() => secondsOf(['run', 'What is 12 + 5?', '--home', home]))
    const status = repeat(() => secondsOf(['status', '--home', home]))
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS))
    return [
      seconds('up --detach in a new home, first answer included', fresh, 3),
      seconds('up --detach in a home that was up before', again, 3),
      seconds('run, a short answer', run, 0.5),
      seconds('status', status, 0.5),
      atMost('first token of a client that is connected', firstMs, 300, 'ms', 0),
      ...idleMemory(home),
    ]
  } finally {
    down(home)
  }
}

/** How long it took, in seconds. */
function up(home: string): number {
  return secondsOf(['up', '--home', home, '--detach', '--json', '--http-port', '0', '--metrics-port', '0'])
}

function down(home: string): void {
  execFileSync(process.execPath, [CLI, 'down', '--home', home], { stdio: 'ignore' })
}

function secondsOf(args: string[]): number {
  const startedAt = performance.now()
  execFileSync(process.execPath, [CLI, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
  return (performance.now() - startedAt) / 1000
}

function repeat(measure: () => number): number[] {
  return Array.from({ length: COMMANDS }, measure)
}

/** The median, and in the text the quickest and the slowest too. */
function seconds(what: string, values: number[], bound: number): Figure {
  const median = quantile(values, 0.5)
  const figure = atMost(what, median, bound, 's', 2)
  return {
    ...figure,
    value: `${figure.value} (${quantile(values, 0).toFixed(2)} to ${quantile(values, 1).toFixed(2)})`,
  }
}

async function firstToken(home: string): Promise<number> {
  const client = await MeshClient.connect({ home })
  try {
    const askedAt = performance.now()
    for await (const chunk of client.chat({
      messages: [{ role: 'user', content: 'Write a haiku about technology' }],
    })) {
      if (chunk.ids.length > 0) return performance.now() - askedAt
    }
    return Number.NaN
  } finally {
    await client.close()
  }
}

function idleMemory(home: string): Figure[] {
  return ROLES.map((role) => {
    const isProcessor = role === 'processor'
    const what = `idle memory: ${role}${isProcessor ? ' with its engine' : ''}`
    return atMost(what, residentMb(readStatus(home, role).pid), isProcessor ? 250 : 130, 'MB', 0)
  })
}
