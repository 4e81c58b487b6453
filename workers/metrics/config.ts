import { z } from 'zod'
import { MAX_CREDENTIAL_CHARS } from '../../lib/protocol/index.js'
import { httpConfigSchema } from '../../lib/worker-base/http/index.js'

export const metricsConfigSchema = httpConfigSchema.extend({
  /**
   * What a scraper must show as `Authorization: Bearer <token>`. Empty: nothing where only this machine can ask, and the
   * home's metrics.token elsewhere.
   */
  token: z
    .string()
    .max(MAX_CREDENTIAL_CHARS)
    .regex(/^(\S(.*\S)?)?$/, 'expected no spaces around it, which an Authorization header does not carry'),
  /** Whoever reaches the port may read the metrics, from other machines too. */
  open: z.boolean(),
})
