/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_commands.h - the rows of all commands, each in the file that does its work. ctl_main.c lists
 * them in the order of the help.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_COMMANDS_H
#define ALLOY_CTL_COMMANDS_H

#include "ctl_command.h"

extern const struct ctl_command ctl_letters_group, ctl_letters_list_command,
    ctl_letters_show_command, ctl_replay_command;
extern const struct ctl_command ctl_status_command, ctl_top_command;
extern const struct ctl_command ctl_bury_command;
extern const struct ctl_command ctl_journal_group, ctl_journal_inspect_command,
    ctl_journal_verify_command, ctl_export_command, ctl_drop_command, ctl_adopt_command;
extern const struct ctl_command ctl_key_group, ctl_key_add_command, ctl_key_list_command,
    ctl_key_remove_command;
extern const struct ctl_command ctl_table_command;
extern const struct ctl_command ctl_doctor_command;
extern const struct ctl_command ctl_prove_command;

#endif
