"""Names of Kamailio that are not here: owns what is said of them, so that nobody looks for a misspelling.

sipwright answers requests; it does not relay, register or handle dialogs and media. A script that does is refused with
these words.
"""

from __future__ import annotations

MODULES = frozenset(
    """
    acc acc_db acc_radius alias_db app_jsdt app_lua app_perl app_python app_python3 app_ruby app_sqlang async auth
    auth_db auth_diameter auth_identity auth_radius auth_xkeys avpops benchmark call_control call_obj carrierroute
    cdp cnxcc counters cpl-c crypto db2_ldap db2_ops db_berkeley db_cassandra db_cluster db_flatstore db_mongodb
    db_mysql db_oracle db_perlvdb db_postgres db_redis db_text db_unixodbc dialog dialog_ng dialplan
    dispatcher diversion dmq dmq_usrloc dnssec domain domainpolicy drouting enum erlang evapi exec file_out geoip geoip2
    group gzcompress h350 http_async_client http_client imc ims_auth ims_charging ims_dialog ims_icscf ims_isc
    ims_qos ims_registrar_pcscf ims_registrar_scscf ims_usrloc_pcscf ims_usrloc_scscf influxdbc inventory
    json_pua jwt kafka kazoo keepalive lcr ldap log_custom lost lrkproxy mangler matrix mediaproxy
    memcached misc_radius misctest mohqueue mqtt mqueue msilo msrp mtree nat_traversal nathelper ndb_cassandra
    ndb_mongodb nosip ntrc nsq osp outbound p_usrloc path pdb pdt peerstate permissions phonenum
    posops prefix_route presence presence_dialoginfo presence_mwi presence_profile presence_reginfo
    presence_xml print print_lib pua pua_bla pua_dialoginfo pua_json pua_mi pua_reginfo pua_rpc pua_usrloc pua_xmpp
    pv_headers qos rabbitmq regex registrar rls rr rtimer rtjson rtp_media_server rtpengine rtpproxy ruxc
    sca sctp sdpops seas secfilter sipcapture sipdump sipjson sipt siprepo siptrace slack sms smsops snmpstats
    speeddial sqlops ss7ops sst statistics statsc statsd stirshaken stun systemdops tcpops tls tmrec topoh topos
    topos_redis tsilo uac uac_redirect uid_auth_db uid_avp_db uid_domain uid_gflags uid_uri_db uri_db userblocklist
    usrloc utils uuid websocket xcap_client xcap_server xhttp xhttp_pi xhttp_prom xhttp_rpc xmlops xmpp xprint
    """.split()
)

RELAYING = frozenset(
    """
    forward forward_tcp forward_tls forward_udp next_branches t_forward_nonack t_forward_nonack_tcp
    t_forward_nonack_udp t_load_contacts t_next_contacts t_relay t_relay_cancel t_relay_to t_relay_to_tcp
    t_relay_to_tls t_relay_to_udp t_replicate t_save_lumps t_cancel_branches t_cancel_callid t_drop_replies
    append_branch remove_branch clear_branches send send_tcp loose_route record_route record_route_preset
    add_rr_param check_route_param ds_select ds_select_dst ds_select_domain ds_next_dst ds_next_domain
    """.split()
)


def said_of_module(name: str) -> str | None:
    """Return what to say of a module of Kamailio that is not here; None when Kamailio has no such module either."""
    return f"module '{name}' of Kamailio is not part of sipwright" if name in MODULES else None


# Functions that work on what a registrar, an authenticating server or a proxy of media and calls keeps.
KEEPING = {
    "sipwright has no registrar": """
        save lookup lookup_branches registered unregister is_registered reg_fetch_contacts reg_free_contacts
        reg_send_reply add_sock_hdr
    """,
    "sipwright does not check credentials": """
        www_authorize www_authenticate www_challenge proxy_authorize proxy_authenticate proxy_challenge auth_check
        auth_challenge pv_www_authenticate pv_proxy_authenticate pv_auth_check consume_credentials has_credentials
    """,
    "sipwright knows no dialogs": """
        dlg_manage dlg_get dlg_bye dlg_terminate_all dlg_set_timeout is_known_dlg set_dlg_profile unset_dlg_profile
        get_profile_size is_in_profile
    """,
    "sipwright does not handle media and NAT": """
        rtpproxy_manage rtpproxy_offer rtpproxy_answer rtpproxy_destroy rtpengine_manage rtpengine_offer
        rtpengine_answer rtpengine_delete set_rtp_proxy_set set_rtpengine_set fix_nated_contact fix_nated_register
        fix_nated_sdp nat_uac_test add_contact_alias set_contact_alias handle_ruri_alias
    """,
    "sipwright has no databases": """
        sql_query sql_pvquery sql_xquery sql_result_free avp_db_query avp_db_load avp_db_store avp_db_delete
    """,
}
KEPT = {name: words for words, names in KEEPING.items() for name in names.split()}


def said_of_function(name: str) -> str | None:
    """Return what to say of a function of Kamailio that cannot be here; None for other names."""
    return "sipwright answers requests and does not relay them" if name in RELAYING else KEPT.get(name)
