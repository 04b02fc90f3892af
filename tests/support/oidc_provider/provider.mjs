// A certified OpenID provider for tests: node provider.mjs CONFIGURATION.json
//
// The configuration has issuer, port, clients, jwks and accounts: a file with the claims of each account by its
// subject, read at each sign-in.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const configuration = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { default: Provider } = await import(createRequire(configuration.modules).resolve("oidc-provider"));

const provider = new Provider(configuration.issuer, {
  clients: configuration.clients,
  jwks: configuration.jwks,
  claims: { openid: ["sub"], profile: ["name"], email: ["email"], groups: ["groups"] },
  scopes: ["openid", "profile", "email", "groups"],
  conformIdTokenClaims: configuration.claimsOnlyAtUserinfo,
  cookies: { keys: ["of-a-test"] },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, ...JSON.parse(readFileSync(configuration.accounts, "utf8"))[id] }),
  }),
});
provider.listen(configuration.port, "127.0.0.1");
