import { execFileSync } from 'node:child_process'

/** Machines with network stacks of their own: Linux network namespaces on one switch, and nothing of this machine's network. */

const PREFIX = `im${process.pid}`
const SWITCH = `${PREFIX}-switch`

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

function inside(namespace: string, ...args: string[]): void {
  ip('netns', 'exec', namespace, 'ip', ...args)
}

const added: string[] = []

/** Why this system cannot have them; undefined where it can. Makes the switch. */
function makeSwitch(): string | undefined {
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

function remove(names: string[]): void {
  for (const name of names) {
    try {
      ip('netns', 'del', name)
    } catch {
      // It was never made, or is gone already.
    }
  }
}

/** Takes all machines away. The switch stays for the next test of the file. */
export function removeMachines(): void {
  remove(added.splice(0))
}

process.once('exit', () => remove([SWITCH, ...added]))

/** Why this system cannot have such machines; undefined where it can. */
export const noNamespaces = makeSwitch()

/** A machine on the switch, with one address. @returns what goes before its commands */
export function plugIn(name: string, host: number): string[] {
  const namespace = `${PREFIX}-${name}`
  added.push(namespace)
  ip('netns', 'add', namespace)
  inside(namespace, 'link', 'set', 'lo', 'up')
  inside(SWITCH, 'link', 'add', `port${host}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
  inside(SWITCH, 'link', 'set', `port${host}`, 'master', 'lan', 'up')
  inside(namespace, 'addr', 'add', addressOf(host), 'dev', 'eth0')
  inside(namespace, 'link', 'set', 'eth0', 'up')
  return ['ip', 'netns', 'exec', namespace]
}

/** Takes a machine off the network. */
export function unplug(name: string): void {
  inside(`${PREFIX}-${name}`, 'link', 'set', 'eth0', 'down')
}

/** Ends everything that runs on a machine, at once, as when its power goes. */
export function killAll(name: string): void {
  const pids = execFileSync('ip', ['netns', 'pids', `${PREFIX}-${name}`], { encoding: 'utf8' })
  for (const pid of pids.split('\n').filter((text) => text !== '')) {
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** Puts a machine back on the network, at another address where one is given. */
export function plugBack(name: string, host: number): void {
  const namespace = `${PREFIX}-${name}`
  inside(namespace, 'addr', 'flush', 'dev', 'eth0')
  inside(namespace, 'addr', 'add', addressOf(host), 'dev', 'eth0')
  inside(namespace, 'link', 'set', 'eth0', 'up')
}

function addressOf(host: number): string {
  return `10.213.7.${host}/24`
}
