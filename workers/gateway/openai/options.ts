import type { Model } from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import type { Rate, Requests, Tokens } from '../requests/index.js'
import type { Stored } from '../stored/index.js'
import type { Background } from './background.js'
import type { BodyReader } from './body-reader.js'

/** What the door needs of its gateway. */
export interface DoorOptions {
  requests: Requests
  tokens: Pick<Tokens, 'ask' | 'counting' | 'contextLength'>
  bodies: BodyReader
  /** Responses that are made whether their client waits or not. */
  background: Background
  /** What the gateways of the mesh keep. */
  stored: Stored
  /** @throws MeshError INVALID_API_KEY */
  authenticate: (key: string) => Principal
  rates: (principal: Principal) => { requests?: Rate; tokens?: Rate }
  catalogue: { find(name: string | undefined): Model | undefined; models(): Model[] }
  /** Longest body of a request; embeddings may bring more. */
  bodyLimitBytes: number
  /** When this gateway started, in milliseconds since the epoch. */
  since: number
}
