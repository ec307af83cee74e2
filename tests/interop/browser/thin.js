// A phone without SIP: the example of `examples/cas` with the commands that the tests give it; see page.js.

import { Cas } from "../../../examples/cas/client.js";
import { Phone } from "../../../examples/cas/phone.js";
import { Ear, Eye, digest, source } from "./media.js";

globalThis.Cas = Cas; // a page has both as scripts

let phone, mine, call; // `call`: the latest one

const say = (event, data = {}) => window.tell(event, data);

/** Ears and eyes for what arrives. */
function attend(connection) {
    const take = (track) => {
        if (track.kind === "audio") call.ear = new Ear(track);
        else call.eye = new Eye(track);
    };
    connection.addEventListener("track", ({ track }) => take(track));
    for (const { receiver } of connection.getTransceivers()) take(receiver.track);
    connection.addEventListener("connectionstatechange", () => say("connection", { state: connection.connectionState }));
}

function followed(it) {
    if (it !== call) return;
    if (it.connection && !it.attended) {
        it.attended = true;
        attend(it.connection);
    }
    if (it.state === "connected" && it.connection && !it.confirmed) {
        it.confirmed = true;
        say("confirmed", { call: it.id });
    }
    if (["ended", "elsewhere"].includes(it.state)) say("ended", { call: it.id });
}

const command = {
    setup({ name, tone, colour }) {
        mine = { tone, colour };
        document.getElementById("name").textContent = `${name}: ${tone} Hz`;
    },

    async login({ base, user, password, device }) {
        return command.begin(await Phone.open(base, user, password, device));
    },

    token: () => phone.cas.token,

    async resume({ base, token, device }) {
        const resumed = await Phone.resume(base, token, device, source(mine));
        [call] = resumed.calls.values();
        command.begin(resumed);
        followed(call);
    },

    begin(begun) {
        phone = begun;
        phone.onCall = followed;
        phone.onRing = (it) => {
            call = it;
            say("incoming", { call: it.id });
        };
        say("registered", { device: phone.device });
        return phone.device;
    },

    /** The command ends at once: the test waits for `confirmed`. */
    call({ target, video = false, more }) {
        const calling = phone.call(target, source({ ...mine, video }), more);
        calling.then((it) => { call = it; followed(it); }, (error) => say("failed", { cause: error.message }));
    },

    answer: ({ video = false }) => phone.answer(call.id, source({ ...mine, video })),
    ask: ({ message, body }) => phone.cas.ask("tel", message, { call: call?.id, ...body }),
    hangup: () => phone.hangUp(call.id),

    restart() {
        call.connection.restartIce();
        return phone.offer(call.id);
    },

    async stop() {
        await phone.cas.logout();
        say("disconnected");
    },

    stats: () => digest(call.connection),
    seen: () => call.eye?.seen() ?? { frames: 0, colour: [0, 0, 0] },
    heard: ({ tone, since = 0, least = 0.5 }) => call.ear?.heard(tone, since, least) ?? 0,
    loudness: ({ since = 0 } = {}) => call.ear?.loudness(since) ?? 0,
    gap: ({ tone, since }) => call.ear?.gap(tone, since) ?? 1e9,
};

window.phone = (name, given) => command[name](given ?? {});
