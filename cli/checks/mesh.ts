import { createSocket } from 'node:dgram'
import { MeshClient, type WorkerView } from '../../lib/client/index.js'
import { MeshError } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { type Common, clientOptions } from '../shared/mesh.js'
import { durationText } from '../shared/output.js'
import type { Finding } from './finding.js'

/** The mesh, as a client of this home meets it. */

const CLOCK_WARN_MS = 2000
const CLOCK_FAIL_MS = 60_000

/** The network, the gateway and its clock, as a client of this home's mesh meets them. */
export async function mesh(home: string, common: Common): Promise<Finding[]> {
  const udp = await canUseUdp()
  if (udp !== undefined) {
    return [
      { check: 'network', state: 'fail', message: `UDP cannot be used: ${udp}`, advice: 'allow it in the firewall' },
    ]
  }
  let client: MeshClient
  try {
    client = new MeshClient(clientOptions(common))
  } catch (err) {
    const failure = MeshError.from(err)
    return [{ check: 'mesh', state: 'warn', message: failure.message, advice: adviceFor(home, failure) }]
  }
  try {
    const startedAt = performance.now()
    await client.connect()
    const connectMs = performance.now() - startedAt
    const { at, rttMs } = await client.ping()
    const skewMs = Math.abs(Date.now() - rttMs / 2 - at)
    const workers = client.hasKey ? (await client.status()).workers : []
    return [
      { check: 'mesh', state: 'ok', message: `gateway ${client.gateway?.name} found in ${durationText(connectMs)}` },
      {
        check: 'clock',
        state: skewMs > CLOCK_FAIL_MS ? 'fail' : skewMs > CLOCK_WARN_MS ? 'warn' : 'ok',
        message: `${durationText(skewMs)} apart from the gateway’s, round trip ${durationText(rttMs)}`,
        ...(skewMs > CLOCK_WARN_MS ? { advice: 'set the clocks by NTP: keys and invites expire by them' } : {}),
      },
      ...(client.hasKey ? [] : [noKey(home)]),
      ...workers.flatMap((worker) => gpuAndModels(home, worker)),
      ...workers.flatMap(unreadableEntries),
    ]
  } catch (err) {
    const failure = MeshError.from(err)
    return [{ check: 'mesh', state: 'fail', message: failure.message, advice: adviceFor(home, failure) }]
  } finally {
    await client.close()
  }
}

/** What runs a processor's models, and why a model failed. */
function gpuAndModels(home: string, { role, name, state, load, reason }: WorkerView): Finding[] {
  if (state === 'down') {
    return [
      {
        check: 'workers',
        state: 'warn',
        message: `${role} ${name} is down${reason ? `: ${reason}` : ''}`,
        advice: `\`infermesh up\` on its machine starts it; ${command(`members remove ${role}/${name}`, home)} takes it out of the mesh`,
      },
    ]
  }
  const { gpu, models = [] } = load ?? {}
  const failed = models.filter((model) => model.state === 'failed')
  return [
    ...(gpu === undefined
      ? []
      : [
          {
            check: 'gpu',
            state: 'ok' as const,
            message: `processor ${name} uses ${[gpu.backend, ...gpu.devices].join(', ')}: ${gpu.reason}`,
          },
        ]),
    ...failed.map((model) => ({
      check: 'model',
      state: 'fail' as const,
      message: `${model.name} on ${name}: ${model.reason ?? 'it did not load'}`,
      advice: `mend what it says and add the model again (${command('models add', home)}), which loads it once more`,
    })),
  ]
}

/** What a worker cannot read of the mesh's stores, and whom it therefore refuses. */
function unreadableEntries({ role, name, version, load }: WorkerView): Finding[] {
  const count = load?.unreadable
  if (count === undefined) return []
  return [
    {
      check: 'stores',
      state: 'warn',
      message: `${role} ${name}${version === undefined ? '' : ` (version ${version})`} cannot read ${count === 1 ? 'an entry' : `${count} entries`} of the directory or the accounts, and refuses whoever they are about`,
      advice: `upgrade it to the authority’s version; \`infermesh logs ${role}-${name}\` on its machine names the entries`,
    },
  ]
}

/** A machine without a key is well: it serves all the same. */
function noKey(home: string): Finding {
  return {
    check: 'key',
    state: 'ok',
    message: 'this machine holds no key, and needs none to serve: the mesh’s other workers were not looked at',
    advice: `to use the mesh from here: \`infermesh keys create\` where the mesh was made, then ${command('login <connect string>', home)} with what it prints`,
  }
}

/** What helps where the mesh cannot be asked. */
function adviceFor(home: string, { code }: MeshError): string {
  const getKey = `make another with \`infermesh keys create\` where the admin key is, and give what it prints to ${command('login <connect string>', home)}`
  const advice: Partial<Record<string, string>> = {
    DHT_UNREACHABLE: 'start the mesh where it was made, or check the network and the bootstrap address',
    MESH_NOT_FOUND: 'check the address, and that a gateway of the mesh runs',
    UNTRUSTED_GATEWAY: 'somebody else answers for this address: check it with whoever runs the mesh',
    INVALID_API_KEY: getKey,
    FORBIDDEN: `the key that is used may not ask for this: ${getKey}`,
    CONFIG_INVALID: `${command('up', home)} makes a mesh, ${command('join <invite>', home)} joins one, ${command('login <connect string>', home)} uses one`,
    PEER_NOT_FOUND: 'start the gateways of the mesh, or look whether their machines reach the network',
    VERSION_MISMATCH: 'run the same version of infermesh on every machine',
    HOLE_PUNCH_FAILED: 'run a gateway outside of these NATs, or use a network that lets UDP through',
  }
  return advice[code] ?? 'look into the gateway’s log: `infermesh logs gateway` on its machine'
}

/** @returns why not */
function canUseUdp(): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', (err) => resolve(err.message))
    socket.bind(0, () => socket.close(() => resolve(undefined)))
  })
}
