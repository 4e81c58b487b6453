/**
 * The formats of strings, as regular expressions. Each lets nothing through that its definition does not, and leaves out
 * what is rare: ends of lines within addresses, letters outside ASCII in names of hosts.
 */

const DATE =
  String.raw`(?:\d{4}-(?:(?:0[13-9]|1[0-2])-(?:0[1-9]|1\d|2\d|30)|(?:0[13578]|1[02])-31|02-(?:0[1-9]|1\d|2[0-8]))` +
  // Divisible by 4, and by 400 where it ends a century.
  String.raw`|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:0[048]|[2468][048]|[13579][26])00)-02-29)`
const CLOCK = String.raw`(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?`
const OFFSET = String.raw`(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)`

const N = '[0-9]{1,9}'
const FOR_HOURS = `T(?:${N}H(?:${N}M(?:${N}S)?)?|${N}M(?:${N}S)?|${N}S)`
const FOR_DAYS = `(?:${N}Y(?:${N}M(?:${N}D)?)?|${N}M(?:${N}D)?|${N}D)`

const OCTET = String.raw`(?:\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])`
const IPV4 = String.raw`${OCTET}(?:\.${OCTET}){3}`
const GROUP = '[0-9a-fA-F]{1,4}'
/** Eight groups; or so many, and behind two colons at most as many as leave one out. */
const IPV6 = `(?:(?:${GROUP}:){7}(?:${GROUP}|:)|::(?:${GROUP}(?::${GROUP}){0,6})?|${[1, 2, 3, 4, 5, 6]
  .map((before) => `(?:${GROUP}:){${before}}(?::|(?::${GROUP}){1,${7 - before}})`)
  .join('|')})`
/** Networks whose addresses have no part of a host. */
const NETWORK4 = ['0.0.0.0/0', `${OCTET}.0.0.0/8`, `${OCTET}.${OCTET}.0.0/16`, `${OCTET}.${OCTET}.${OCTET}.0/24`]
  .map((network) => network.replaceAll('.', '[.]'))
  .join('|')
const NETWORK6 = `::/0|${[2, 3, 4].map((groups) => `(?:${GROUP}:){${groups}}:/${groups * 16}`).join('|')}`

const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?'
const MAIL_LABEL = '[a-zA-Z0-9](?:-?[a-zA-Z0-9]){0,20}'
const EMAIL =
  String.raw`[a-zA-Z0-9_+-]{1,32}(?:\.[a-zA-Z0-9_+-]{1,16}){0,2}@` +
  String.raw`${MAIL_LABEL}(?:\.${MAIL_LABEL}){0,2}\.[a-zA-Z]{2,10}`

const PERCENT = '%[0-9A-Fa-f]{2}'
const UNRESERVED = String.raw`A-Za-z0-9\-._~!$&'()*+,;=`
/** A name whose last part begins with a letter, or nobody could tell it from an address. */
const HOST_LABEL = '[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*'
const NAME = String.raw`(?:${HOST_LABEL}\.)*[a-zA-Z][a-zA-Z0-9]*(?:-[a-zA-Z0-9]+)*`
const HOST = `(?:${NAME}|${IPV4})`
const PORT = String.raw`(?::[1-9]\d{0,3})`
const PATH = `(?:[${UNRESERVED}:@/]|${PERCENT})*`
const AFTER_PATH = String.raw`(?:\?(?:[${UNRESERVED}:@/?]|${PERCENT})*)?(?:#(?:[${UNRESERVED}:@/?]|${PERCENT})*)?`
const WEB = `(?:https?|wss?|ftp)://${HOST}${PORT}?(?:/${PATH})?`
/** Of a host with a name that anybody could look up. */
const PUBLIC = String.raw`(?:https?|ftp)://(?:${HOST_LABEL}\.)+[a-zA-Z]{2,10}(?::[1-9]\d{1,3})?(?:/${PATH}${AFTER_PATH})?`
/** Schemes that lead to a host have one, whoever else is named before it. */
const USER = '(?:[a-zA-Z0-9._~-]+(?::[a-zA-Z0-9._~-]+)?@)?'
const OTHER_SCHEME = '(?!(?:https?|wss?|ftp|file):)[a-z][a-z0-9+.-]*:'
const NO_HOST = `(?:[${UNRESERVED}:@]|${PERCENT})${PATH}`
const URI = `(?:${WEB}|file:///${PATH}|${OTHER_SCHEME}(?://${USER}${NAME}${PORT}?(?:/${PATH})?|/?${NO_HOST}))${AFTER_PATH}`
const RELATIVE = `(?:/(?:${NO_HOST})?|(?:[${UNRESERVED}@]|${PERCENT})+(?:/${PATH})?)?${AFTER_PATH}`

const base64 = (signs: string) => `(?:[${signs}]{4})*`
const PADDED = 'A-Za-z0-9+/'
const FOR_URLS = 'A-Za-z0-9_-'
const BASE64 = `${base64(PADDED)}(?:[${PADDED}][AQgw]==|[${PADDED}]{2}[AEIMQUYcgkosw048]=)?`
const BASE64URL = `${base64(FOR_URLS)}(?:[${FOR_URLS}][AQgw]|[${FOR_URLS}]{2}[AEIMQUYcgkosw048])?`
/** The first part of a token names its algorithm. */
const JWT_HEADS = ['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'ES256', 'ES384', 'EdDSA']
  .map((alg) => Buffer.from(JSON.stringify({ alg, typ: 'JWT' })).toString('base64url'))
  .join('|')
const JWT = String.raw`(?:${JWT_HEADS})\.(?=.)${BASE64URL}\.(?=.)${BASE64URL}`

const UUID = '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}'
const uuid = (version: string) =>
  `[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-${version}[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}`
const POINTER = '(?:/(?:[^~/]|~[01])*)*'
const PICTURE = String.raw`[\p{Extended_Pictographic}\p{Regional_Indicator}\u20E3]`
const ANY_PICTURE = String.raw`(?=[\s\S]*${PICTURE})[\p{Extended_Pictographic}\p{Emoji_Component}]+`
const MASK4 = '(?:[0-9]|[12][0-9]|3[0-2])'
const MASK6 = '(?:[0-9]|[1-9][0-9]|1[01][0-9]|12[0-8])'

const WHOLE: Readonly<Record<string, string>> = {
  date: DATE,
  time: CLOCK + OFFSET,
  'date-time': `${DATE}T${CLOCK}${OFFSET}`,
  duration: `P(?:${N}W|${FOR_DAYS}(?:${FOR_HOURS})?|${FOR_HOURS})`,
  'iso-time': `${CLOCK}${OFFSET}?`,
  'iso-date-time': `${DATE}T${CLOCK}${OFFSET}?`,
  email: EMAIL,
  'idn-email': EMAIL,
  hostname: String.raw`${LABEL}(?:\.${LABEL}){0,4}`,
  'idn-hostname': String.raw`${LABEL}(?:\.${LABEL}){0,4}`,
  ipv4: IPV4,
  ipv6: IPV6,
  ipvanyaddress: `(?:${IPV4}|${IPV6})`,
  cidrv4: `${IPV4}/${MASK4}`,
  cidrv6: `${IPV6}/${MASK6}`,
  ipv4interface: `${IPV4}/${MASK4}`,
  ipv6interface: `${IPV6}/${MASK6}`,
  ipvanyinterface: `(?:${IPV4}/${MASK4}|${IPV6}/${MASK6})`,
  ipv4network: NETWORK4,
  ipv6network: NETWORK6,
  ipvanynetwork: `${NETWORK4}|${NETWORK6}`,
  'multi-host-uri': URI,
  uri: URI,
  url: PUBLIC,
  iri: URI,
  'uri-template': URI,
  'uri-reference': `(?:${URI}|${RELATIVE})`,
  'iri-reference': `(?:${URI}|${RELATIVE})`,
  uuid: UUID,
  guid: UUID,
  ...Object.fromEntries(['1', '2', '3', '4', '5', '6', '7', '8'].map((version) => [`uuid${version}`, uuid(version)])),
  'json-pointer': POINTER,
  'relative-json-pointer': `(?:0|[1-9][0-9]{0,9})(?:#|${POINTER})`,
  byte: BASE64,
  base64: BASE64,
  base64url: BASE64URL,
  jwt: JWT,
  e164: String.raw`\+[1-9][0-9]{6,14}`,
  ulid: '[0-7][0-9A-HJKMNP-TV-Z]{25}',
  cuid: 'c[0-9a-z]{8,30}',
  cuid2: '[a-z][0-9a-z]{1,31}',
  nanoid: '[a-zA-Z0-9_-]{21}',
  xid: '[0-9a-v]{20}',
  ksuid: '[A-Za-z0-9]{27}',
  mac: '(?:[0-9A-F]{2}(?::[0-9A-F]{2}){5}|[0-9a-f]{2}(?::[0-9a-f]{2}){5})',
  hex: '[0-9a-fA-F]*',
  emoji: ANY_PICTURE,
  lowercase: '[^A-Z]*',
  uppercase: '[^a-z]*',
  ...hashes(),
}

/** Digests by their name and how they are written. */
function hashes(): Record<string, string> {
  const sizes = { md5: 16, sha1: 20, sha256: 32, sha384: 48, sha512: 64 }
  return Object.fromEntries(
    Object.entries(sizes).flatMap(([name, size]) => {
      const [signs, padding] = [Math.ceil((size * 4) / 3), '='.repeat((3 - (size % 3)) % 3)]
      return [
        [`${name}_hex`, `[0-9a-fA-F]{${size * 2}}`],
        [`${name}_base64`, `[${PADDED}]{${signs}}${padding}`],
        [`${name}_base64url`, `[${FOR_URLS}]{${signs}}`],
      ]
    }),
  )
}

/** Formats that say what a text is for, and nothing about its signs; what zod names beside a pattern that says it all. */
const SAY_NOTHING =
  'binary password path file-path directory-path json-string starts_with ends_with includes regex_pattern int32 int64 ' +
  'float double'

/**
 * What a text of a format matches from its beginning to its end, as a pattern; '' where a format says nothing about that.
 */
export const FORMATS: ReadonlyMap<string, string> = new Map([
  ...Object.entries(WHOLE).map(([name, pattern]): [string, string] => [name, `^(?:${pattern})$`]),
  ...SAY_NOTHING.split(' ').map((name): [string, string] => [name, '']),
])

/**
 * What is written of a format that no pattern beside it narrows. Of times those in UTC: every reader takes them, and many
 * take nothing else unless they are told to.
 */
export const WITHOUT_PATTERN: ReadonlyMap<string, string> = new Map([['date-time', `^${DATE}T${CLOCK}Z$`]])
