import type { Test } from 'brittle'
import { homeFiles } from '../../lib/home/index.js'
import type { Role, WorkerStatus } from '../../lib/protocol/index.js'
import { type Child, CLI, type Exit, ready, spawnProgram } from './mesh.js'

/** A machine of a mesh: a home of its own, and the `infermesh` command as its owner uses it. */
export class Machine {
  readonly home: string
  readonly #t: Test
  readonly #enter: string[]
  #workers: Child | undefined

  /** @param enter what goes before each command, such as `ip netns exec <namespace>` */
  private constructor(t: Test, home: string, enter: string[]) {
    this.#t = t
    this.home = home
    this.#enter = enter
  }

  static async make(t: Test, enter: string[] = []): Promise<Machine> {
    return new Machine(t, await t.tmp(), enter)
  }

  /** Runs any program of the machine to its end. */
  program(command: string[]): Promise<Exit> {
    return this.#spawn(command).exited
  }

  /** Runs `infermesh <args> --json` to its end. @throws Error with what it printed when it fails */
  async infermesh<T>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.program([process.execPath, CLI, ...args, '--json', '--home', this.home])
    if (code !== 0) throw new Error(`infermesh ${args.join(' ')} ended with ${code}: ${stderr}`)
    return JSON.parse(stdout) as T
  }

  /** Starts `infermesh <args> --json`, which waits for something. */
  begin(...args: string[]): Child {
    return this.#spawn([process.execPath, CLI, ...args, '--json', '--home', this.home])
  }

  /** Starts this machine's workers, which stop with the test at the latest. */
  up(...args: string[]): void {
    this.#workers = this.#spawn([process.execPath, CLI, 'up', '--no-check', ...args, '--home', this.home])
    void this.#workers.exited.then(({ code, stdout, stderr }) => {
      if (code !== 0) this.#t.comment(`infermesh up ended with ${code}: ${stdout}${stderr}`)
    })
  }

  /** Stops this machine's workers. */
  async down(): Promise<void> {
    this.#workers?.process.kill('SIGTERM')
    await this.#workers?.exited
  }

  /** What a worker of this machine says of itself once it is ready. */
  worker(role: Role, name: string): Promise<WorkerStatus> {
    return ready(this.home, role, name, undefined, 60_000)
  }

  #spawn(command: string[]): Child {
    return spawnProgram(this.#t, [...this.#enter, ...command], { env: { HOME: this.home, NO_COLOR: '1' } })
  }
}

export interface Machines {
  /** Authority and gateway. */
  hub: Machine
  a: Machine
  b: Machine
  watch: Machine
  /** Has nothing but the address and a key. */
  guest: Machine
}

interface Answer {
  text: string
  processor: string
  gateway: string
}

/**
 * Makes one mesh of five machines: two processors and a metrics worker join by invites, and a guest asks until both
 * processors have answered; then one processor is removed, and the other goes on alone.
 * @param network what `infermesh up` needs to make the mesh
 */
export async function liveThrough(t: Test, { hub, a, b, watch, guest }: Machines, network: string[]): Promise<void> {
  let began = performance.now()
  const took = (what: string): void => {
    t.comment(`${what}: ${((performance.now() - began) / 1000).toFixed(1)} s`)
    began = performance.now()
  }
  hub.up('--role', 'auth', '--role', 'gateway', '--http-port', '0', ...network)
  await hub.worker('auth', 'auth')
  await hub.worker('gateway', 'gateway')
  took('the mesh is made')

  const joins = async (machine: Machine, role: Role, name: string): Promise<void> => {
    const { invite } = await hub.infermesh<{ invite: string }>('invite', '--role', role)
    await machine.infermesh('join', invite, '--name', name)
    machine.up('--metrics-port', '0')
  }
  await Promise.all([joins(a, 'processor', 'a'), joins(b, 'processor', 'b'), joins(watch, 'metrics', 'watch')])
  const metrics = await watch.worker('metrics', 'watch')
  for (const [machine, name] of [
    [a, 'a'],
    [b, 'b'],
  ] as const) {
    await machine.worker('processor', name)
  }
  const models = async () => (await hub.infermesh<{ models: { processors: string[] }[] }>('models', 'ls')).models
  for (let i = 0; i < 60 && (await models())[0]?.processors.length !== 2; i++);
  took('three machines have joined, and both processors offer the model')

  const { key } = await hub.infermesh<{ key: string }>('keys', 'create')
  const { network: net, address } = JSON.parse((await guest.program(['cat', homeFiles(hub.home).mesh])).stdout) as {
    address: string
    network: { bootstrap: string[] }
  }
  const mesh = `${address}@${net.bootstrap[0]}`
  const ask = (i: number) =>
    guest.infermesh<Answer>('run', `Count to ${i}`, '--max-tokens', '60', '--mesh', mesh, '--key', key)
  const answered = new Set<string>()
  for (let round = 0; round < 6 && answered.size < 2; round++) {
    const answers = await Promise.all([1, 2, 3, 4].map((i) => ask(round * 4 + i)))
    for (const { text, processor } of answers) {
      t.ok(text.length > 0)
      answered.add(processor)
    }
  }
  t.alike([...answered].sort(), ['a', 'b'], 'both processors have answered the guest')
  took('both processors have answered')

  const scrape = async () => {
    const code = `fetch('${metrics.addresses.metrics}').then((r) => r.text()).then(console.log)`
    return (await watch.program([process.execPath, '-e', code])).stdout
  }
  const text = await scrape()
  for (const labels of [
    'auth",worker="auth',
    'gateway",worker="gateway',
    'processor",worker="a',
    'processor",worker="b',
  ]) {
    t.ok(text.includes(`infermesh_up{role="${labels}"} 1\n`), `the metrics worker sees ${labels}`)
  }
  t.ok(
    /^infermesh_requests_total\{role="gateway",worker="gateway",.*outcome="ok".*\} [1-9]/m.test(text),
    'and what was asked',
  )

  await hub.infermesh('members', 'remove', 'b')
  const alone = await Promise.all([ask(1), ask(2)])
  t.alike(
    alone.map(({ processor }) => processor),
    ['a', 'a'],
    'a removed processor is asked no more',
  )
  t.absent((await scrape()).includes('worker="b"'), 'and its series are gone')
  await Promise.all([hub, a, b, watch].map((machine) => machine.down()))
}
