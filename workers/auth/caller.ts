import { loginUserOf } from '../../lib/protocol/index.js'
import type { Principal } from '../../lib/store/index.js'
import type { CallContext, Net } from '../../lib/worker-base/index.js'
import type { Actor } from './actor.js'

/** Who makes a call of the authority's methods. */

export type Respond = Net['dispatcher']['respond']

/** The dispatcher calls a handler of a method that wants a credential only with a principal. */
export function principalOf({ principal }: CallContext): Principal {
  if (principal === undefined) throw new Error('a method without a credential has no principal')
  return principal
}

export function actor(context: CallContext): Actor {
  const { user, scopes, keyId } = principalOf(context)
  return { user, scopes, keyId: loginUserOf(keyId) === undefined ? keyId : undefined }
}
