import { execFileSync } from 'node:child_process'
import { liveThrough, Machine } from './helpers/machine.js'
import { testUnless } from './helpers/needs.js'
import { onTeardown } from './helpers/teardown.js'

/** Machines with network stacks of their own: Linux network namespaces on one switch, and nothing of this machine's network. */

const PREFIX = `im${process.pid}`
const SWITCH = `${PREFIX}-switch`

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

function inside(namespace: string, ...args: string[]): void {
  ip('netns', 'exec', namespace, 'ip', ...args)
}

/** Why this system cannot have them; undefined where it can. */
function whyNot(): string | undefined {
  try {
    ip('netns', 'add', SWITCH)
    inside(SWITCH, 'link', 'add', 'lan', 'type', 'bridge')
    inside(SWITCH, 'link', 'set', 'lan', 'up')
    return undefined
  } catch (err) {
    const { stderr, message } = err as { stderr?: Buffer; message: string }
    return `network namespaces are not allowed here: ${stderr?.toString().trim() || message}`
  }
}

function removeAll(): void {
  for (const name of [SWITCH, ...added]) {
    try {
      ip('netns', 'del', name)
    } catch {
      // It was never made, or is gone already.
    }
  }
}

const added: string[] = []
process.once('exit', removeAll)
const reason = whyNot()

/** A machine on the switch, with one address. */
function plugIn(name: string, host: number): string[] {
  const namespace = `${PREFIX}-${name}`
  added.push(namespace)
  ip('netns', 'add', namespace)
  inside(namespace, 'link', 'set', 'lo', 'up')
  inside(SWITCH, 'link', 'add', `port${host}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
  inside(SWITCH, 'link', 'set', `port${host}`, 'master', 'lan', 'up')
  inside(namespace, 'addr', 'add', `10.213.7.${host}/24`, 'dev', 'eth0')
  inside(namespace, 'link', 'set', 'eth0', 'up')
  return ['ip', 'netns', 'exec', namespace]
}

testUnless(reason, 'machines on one LAN make a mesh, with no network but that', { timeout: 120_000 }, async (t) => {
  onTeardown(t, removeAll)
  const machines = {
    hub: await Machine.make(t, plugIn('hub', 1)),
    a: await Machine.make(t, plugIn('a', 2)),
    b: await Machine.make(t, plugIn('b', 3)),
    watch: await Machine.make(t, plugIn('watch', 4)),
    guest: await Machine.make(t, plugIn('guest', 5)),
  }
  await liveThrough(t, machines, ['--network', 'lan'])
})
