#!/usr/bin/env node
import { parseArgs } from 'node:util'
import { complain, homePath } from './lib/home/index.js'
import { MeshError, messageOf, nameSchema, ROLES, type Role, roleSchema, validate } from './lib/protocol/index.js'
import type { BaseWorker, WorkerOptions } from './lib/worker-base/index.js'

const HELP = `Starts one worker of an infermesh.

Usage: node dist/worker.js --wtype <role> [options]

  --wtype <role>       ${ROLES.join(', ')}
  --rack <name>        this worker's instance name (default: the role)
  --env <name>         production, development, …; goes into the log (default: production)
  --data-dir <path>    the home (default: INFERMESH_HOME, else ~/.infermesh)
  --set <f.key=value>  one setting of a facility; can be repeated
  --held               opens its store, and waits with the network until the process that started it says "go"
  --help               this text

Examples:
  node dist/worker.js --wtype auth
  node dist/worker.js --wtype gateway --rack g1 --env production --set http.port=0
  node dist/worker.js --wtype processor --rack p1 --set engine.gpu=off
`

/** Each role's worker is loaded only where it runs: a gateway need not carry the engine. */
const workers: Record<Role, () => Promise<(options: WorkerOptions) => BaseWorker>> = {
  auth: async () => {
    const { AuthWorker } = await import('./workers/auth/index.js')
    return (options) => new AuthWorker(options)
  },
  gateway: async () => {
    const { GatewayWorker } = await import('./workers/gateway/index.js')
    return (options) => new GatewayWorker(options)
  },
  processor: async () => {
    const { ProcessorWorker } = await import('./workers/processor/index.js')
    return (options) => new ProcessorWorker(options)
  },
  metrics: async () => {
    const { MetricsWorker } = await import('./workers/metrics/index.js')
    return (options) => new MetricsWorker(options)
  },
}

/** `net.kind=lan` as { net: { kind: 'lan' } }; a value is JSON where it can be read as such. */
function parseSettings(settings: string[]): Record<string, Record<string, unknown>> {
  const flags: Record<string, Record<string, unknown>> = {}
  for (const setting of settings) {
    const [, facility, key, text] = /^([\w-]+)\.(\w+)=(.*)$/s.exec(setting) ?? []
    if (facility === undefined || key === undefined || text === undefined)
      throw MeshError.BAD_REQUEST(`--set ${setting}: expected facility.key=value, such as http.port=0`)
    flags[facility] ??= {}
    flags[facility][key] = jsonOrText(text)
  }
  return flags
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function readArguments() {
  try {
    return parseArgs({
      options: {
        wtype: { type: 'string' },
        rack: { type: 'string' },
        env: { type: 'string', default: 'production' },
        'data-dir': { type: 'string' },
        set: { type: 'string', multiple: true, default: [] },
        held: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values
  } catch (err) {
    throw MeshError.BAD_REQUEST(`${messageOf(err)}. See --help`)
  }
}

function parseCommandLine(): { role: Role; options: WorkerOptions } | undefined {
  const { help, wtype, rack, env, set, held, 'data-dir': home } = readArguments()
  if (help) return undefined
  const role = validate(roleSchema, wtype, '--wtype')
  return {
    role,
    options: {
      home: homePath(home),
      name: validate(nameSchema, rack ?? role, '--rack'),
      env,
      flags: parseSettings(set),
      terminal: process.stderr.isTTY === true,
      ...(held && { go: theWord() }),
    },
  }
}

/**
 * Resolves when the process that started this one says that it may go to the network. Where that one ends before, so does
 * this one.
 * @throws MeshError BAD_REQUEST where it was not started over a channel
 */
function theWord(): Promise<unknown> {
  if (process.send === undefined) {
    throw MeshError.BAD_REQUEST('--held: nobody could say "go": it is for processes that are started over a channel')
  }
  return new Promise((resolve) => process.once('message', resolve))
}

async function main(): Promise<void> {
  const command = parseCommandLine()
  if (command === undefined) {
    process.stdout.write(HELP)
    return
  }
  if (command.role === 'processor') (await import('./workers/processor/first-engine/index.js')).startFirstEngine()
  const make = await workers[command.role]()
  const { runWorker } = await import('./lib/worker-base/index.js')
  await runWorker(make, command.options)
}

main().catch((err: unknown) => {
  const failure = MeshError.from(err)
  complain(`infermesh: ${failure.code === 'INTERNAL' && err instanceof Error ? err.stack : failure.message}`)
  process.exit(failure.exitCode)
})
