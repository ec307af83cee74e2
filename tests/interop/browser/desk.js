// A person's calls and devices, with a button for each thing that may be done now: the page knows no SIP and has no media.

import { Client } from "./cas.js";

let client, user, devices = [];
const calls = new Map();

function say(event, data = {}) {
    window.tell(event, data);
}

function happened(event, body) {
    const call = body?.call;
    if (event.startsWith("tel.") && call) {
        if (call.state === "ended") calls.delete(call.id);
        else calls.set(call.id, call);
        const mine = call.parties.find((party) => party.user === user);
        say(event, { call: call.id, state: call.state, mine: mine?.state, on: (mine?.devices ?? []).map((d) => d.device), actions: call.actions });
        show();
    } else say(event, body);
}

/** What a button asks for, besides the call. */
const wanted = {
    answer: (device) => ({ device }),
    move: (device) => ({ device }),
};

function show() {
    const list = document.getElementById("calls");
    list.replaceChildren(...[...calls.values()].map((call) => {
        const row = document.createElement("li");
        row.textContent = `${call.state}: ${call.parties.map((party) => `${party.name ?? party.user ?? party.number} (${party.state})`).join(", ")} `;
        for (const action of call.actions) {
            for (const device of wanted[action] ? devices : [null]) {
                const button = document.createElement("button");
                button.dataset.does = `${action} ${device ?? ""}`.trim();
                button.textContent = button.dataset.does;
                button.onclick = () => press(call.id, action, wanted[action]?.(device));
                row.append(button);
            }
        }
        return row;
    }));
}

function press(call, action, more = {}) {
    client.ask("tel", action, { call, ...more })
        .then(() => say("done", { action }), (error) => say("refused", { action, error: String(error.message) }));
}

const command = {
    async login({ base, name, password }) {
        client = new Client(base, happened);
        user = await client.login(name, password);
        document.getElementById("name").textContent = user;
        devices = (await client.ask("admin", "list-devices")).devices.map((device) => device.device);
    },

    /** Presses a button: `hold`, or `move DEVICE`. */
    press({ does }) {
        const button = document.querySelector(`button[data-does="${CSS.escape(does)}"]`);
        if (!button) throw new Error(`there is no button ${does}, but: ${[...document.querySelectorAll("button")].map((b) => b.dataset.does)}`);
        button.click();
    },
};

window.phone = (name, given) => command[name](given);
