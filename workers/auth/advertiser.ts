import { type Advertisement, advertise, machineName } from '../../lib/lan/index.js'
import { type MeshProfile, messageOf, nodeAddress, PROTOCOL_VERSION } from '../../lib/protocol/index.js'
import { type Facility, type Logger, VERSION } from '../../lib/worker-base/index.js'

export interface AdvertiserOptions {
  /** The settings allow it. */
  enabled: boolean
  /** With the bootstrap node that the net serves: it has started by then. */
  profile: () => MeshProfile
  log: () => Logger
}

/** Tells of the mesh in its LAN, so that `infermesh join` finds it. That it cannot is no reason not to run. */
export class Advertiser implements Facility {
  readonly name = 'nearby'
  readonly #options: AdvertiserOptions
  #advertisement: Advertisement | undefined

  constructor(options: AdvertiserOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    const { enabled, profile, log } = this.#options
    const { address: mesh, authority, network } = profile()
    const [bootstrap] = network.bootstrap
    if (!enabled || network.kind !== 'lan' || bootstrap === undefined) return
    const advert = { mesh, authority, bootstrap, name: machineName(), version: VERSION, protocol: PROTOCOL_VERSION }
    try {
      this.#advertisement = await advertise(advert, nodeAddress(bootstrap).host)
    } catch (err) {
      log().warn({ reason: messageOf(err) }, 'the mesh is not told of in the LAN; invites work all the same')
    }
  }

  async stop(): Promise<void> {
    await this.#advertisement?.stop()
  }
}
