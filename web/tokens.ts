// Access tokens: the one that a tab keeps, and those that a development server gives.

export interface TokenStore {
  /** The token in the address, which the store moves from there into this tab, or the one that this tab has. */
  saved(): string | null;
  save(token: string): void;
  forget(): void;
}

/** Keeps a token in the session storage, which belongs to this tab. Each page has a key of its own. */
export const tokenStore = (key: string): TokenStore => ({
  saved() {
    const fromAddress = new URLSearchParams(location.hash.slice(1)).get('token');
    if (fromAddress) {
      history.replaceState(null, '', location.pathname + location.search);
      sessionStorage.setItem(key, fromAddress);
    }
    return fromAddress ?? sessionStorage.getItem(key);
  },
  save: (token) => sessionStorage.setItem(key, token),
  forget: () => sessionStorage.removeItem(key),
});

/** Whether the server gives a token to anyone. */
export const isDevelopment = (): boolean => 'development' in document.documentElement.dataset;

/** Requests a token of any user from a development server. The error of a failure has a text for the user. */
export async function developmentToken(user: string, role: 'user' | 'admin' = 'user'): Promise<string> {
  let response: Response;
  try {
    response = await fetch('/development/token', {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user, role }),
    });
  } catch {
    throw new Error('The server can’t be reached.');
  }
  const body = await response.json() as { data?: { token: string }; detail?: string; errors?: { detail: string }[] };
  if (!body.data) throw new Error(body.errors?.[0] ? `The name ${body.errors[0].detail}.` : body.detail);
  return body.data.token;
}
