// Texts that others write: right-to-left names, characters that reverse what follows, nothing visible, and an emoji in
// two forms.
//
// node page-texts.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B
// page.mjs describes the output. B's name must be written from right to left.

import { Person, arguments_, assert, assertUndisturbed, run, step, until } from './page.mjs';

const [base, tokenA, tokenB, nameA, nameB] = arguments_('page-texts.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B', 5);
/** A participant who never signs in, whose name is written from right to left, too. */
const OTHER = 'רות';
const REVERSE = '\u202E';

/** Sends a command as B without the page. */
async function command(body) {
  const headers = { Authorization: `Bearer ${tokenB}`, 'Content-Type': 'application/json' };
  const response = await fetch(`${base}/api/messages`, { method: 'POST', headers, body: JSON.stringify(body) });
  const answer = await response.json();
  assert(response.ok, JSON.stringify(answer));
  return answer.data;
}

/** Where each text begins on the screen: the left edge of its first character. */
const leftEdges = (locator, ...texts) => locator.evaluate((element, all) => all.map((text) => {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const start = walker.currentNode.data.indexOf(text);
    if (start < 0) continue;
    const range = document.createRange();
    range.setStart(walker.currentNode, start);
    range.setEnd(walker.currentNode, start + 1);
    return range.getBoundingClientRect().left;
  }
  throw new Error(`${text} isn’t in ${element.textContent}`);
}), texts);

/** Waits until these texts stand in this order, from left to right. */
const inOrder = (locator, ...texts) => until(`in order: ${texts}`, async () => {
  try {
    const edges = await leftEdges(locator, ...texts);
    return edges.every((edge, i) => i === 0 || edge > edges[i - 1]) || edges;
  } catch (error) {
    return String(error); // the text isn’t there yet
  }
});

async function directions(a, id) {
  await step('names that are written from right to left keep their order', () =>
    inOrder(a.get('participants'), 'You', nameB, OTHER));
  await step('a text that reverses what follows changes neither its links nor its mentions', async () => {
    await command({ conversationId: id, content: `${REVERSE}reversed https://example.org/path @${nameA} end` });
    const content = a.get('message').locator('.content').filter({ hasText: 'reversed' });
    await content.waitFor();
    await inOrder(content.locator('a'), 'https', 'example', 'path');
    await inOrder(content.getByTestId('mention'), '@', nameA.slice(0, 1), nameA.slice(-1));
  });
  await step('a mention is marked between words of a script without spaces', async () => {
    await command({ conversationId: id, content: `交给@${nameA}处理` });
    await a.get('message').last().getByTestId('mention').getByText(`@${nameA}`, { exact: true }).waitFor();
  });
  await step('a link ends before a character that reverses it', async () => {
    await command({ conversationId: id, content: `https://example.org/a${REVERSE}gpj.exe` });
    const last = a.get('message').last();
    await last.getByText('gpj').waitFor();
    const address = await last.locator('a').getAttribute('href');
    assert(address === 'https://example.org/a', address);
  });
  await step('the list shows who wrote before what they wrote', async () => {
    await command({ conversationId: id, content: `${REVERSE}the last text` });
    const preview = a.inList(id).getByTestId('preview');
    await preview.getByText('the last text').waitFor();
    await inOrder(preview, nameB, ':', 't');
  });
}

async function nothingVisible(a) {
  const count = await a.get('message').count();
  const sent = [];
  a.page.on('request', (request) => { if (request.method() !== 'GET') sent.push(request.postData() ?? ''); });
  await step('a message without anything visible isn’t sent, and the page says why', async () => {
    for (const text of ['\u200B', '\u3164\u2800', ' \u2060\n ']) {
      await a.send(text);
      await a.get('composer-hint').getByText('The message must not be empty unless the message has attachments.').waitFor();
      assert(await a.composer.inputValue() === text, 'the text is gone');
      await a.composer.fill('');
      await a.get('composer-hint').waitFor({ state: 'hidden' });
    }
  });
  await step('a visible message is sent afterwards, and it alone', async () => {
    await a.send('visible');
    await a.sees('visible');
    assert(await a.get('message').count() === count + 1, 'the timeline has another message');
    const messages = sent.filter((body) => body.includes('"message"'));
    assert(messages.length === 1, messages.join());
  });
}

async function reactions(a, id) {
  const message = await step('B reacts with a heart in its text form', async () => {
    const { id: message } = await command({ conversationId: id, content: 'to react to' });
    await command({ action: 'reaction', messageId: message, emoji: '❤' });
    await a.reaction(message, '❤').filter({ hasText: '1' }).waitFor();
    return message;
  });
  await step('the heart of the toolbar joins it, and leaves it again', async () => {
    await a.clickAction(message, 'react', '[data-emoji="❤️"]');
    await a.reaction(message, '❤').filter({ hasText: '2' }).waitFor();
    await a.clickAction(message, 'react', '[data-emoji="❤️"]');
    await a.reaction(message, '❤').filter({ hasText: '1' }).waitFor();
    assert(await a.message(message).getByTestId('reaction').count() === 1, 'the heart is shown twice');
  });
}

async function story(browser) {
  const a = await step('A signs in', () => Person.enter(browser, base, 'A', tokenA));
  const id = await step('A starts a group', () => a.startConversation(`${nameB}, ${OTHER}`, 'Texts'));
  await directions(a, id);
  await nothingVisible(a);
  await reactions(a, id);
  await step('the console has no errors', () => assertUndisturbed());
}

await run(story, [tokenA, tokenB]);
