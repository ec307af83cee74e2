// Shows /cas/openapi.json: each topic, its messages, and the fields of their bodies.
"use strict";

const make = (name, text, ...children) => {
    const element = document.createElement(name);
    if (text) element.textContent = text;
    element.append(...children);
    return element;
};

const follow = (all, schema) => (schema && schema.$ref ? all[schema.$ref.split("/").pop()] : schema) || {};

const typeOf = (all, schema) => {
    if (!schema || schema === true) return "anything";
    if (schema.$ref) {
        const target = follow(all, schema);
        return target.enum ? target.enum.join(" | ") : target.oneOf ? words(target) : schema.$ref.split("/").pop();
    }
    if (schema.anyOf) return schema.anyOf.map((one) => typeOf(all, one)).join(" or ");
    if (schema.type === "array") return "list of " + typeOf(all, schema.items);
    return [].concat(schema.type || schema.const || "object").join(" or ");
};

const words = (schema) => schema.oneOf.map((one) => one.const || (one.enum || []).join(" | ")).filter(Boolean).join(" | ") || "object";

const fields = (all, schema) => {
    const body = follow(all, schema);
    const required = body.required || [];
    const rows = Object.entries(body.properties || {}).map(([name, field]) =>
        make("tr", "", make("td", name + (required.includes(name) ? " *" : "")), make("td", typeOf(all, field)),
            make("td", field.description || follow(all, field).description || "")));
    return rows.length ? make("table", "", ...rows) : make("p", "No fields.");
};

const show = (api) => {
    const all = api.components.schemas;
    const topics = new Map();
    for (const [name, schema] of Object.entries(all)) {
        const parts = name.split(".");
        if (parts.length < 2 || parts[2] === "reply") continue;
        if (!topics.has(parts[0])) topics.set(parts[0], []);
        topics.get(parts[0]).push([parts[1], parts[2] === "event", schema, all[`${parts[0]}.${parts[1]}.reply`]]);
    }
    for (const [topic, messages] of [...topics].sort()) {
        const heading = make("h2", topic);
        heading.id = topic;
        const link = make("a", topic);
        link.href = "#" + topic;
        document.getElementById("topics").append(link);
        document.getElementById("operations").append(heading);
        for (const [message, isEvent, schema, reply] of messages) {
            const summary = make("summary", "", make("b", message), " " + (isEvent ? "(event) " : "") + schema.description);
            const details = make("details", "", summary, make("h4", isEvent ? "Body" : "Request"), fields(all, schema.properties.body));
            if (reply) details.append(make("h4", "Reply"), fields(all, reply.properties.body));
            document.getElementById("operations").append(details);
        }
    }
};

fetch("/cas/openapi.json").then((answer) => answer.json()).then(show)
    .catch((error) => document.getElementById("operations").append(make("p", String(error))));
