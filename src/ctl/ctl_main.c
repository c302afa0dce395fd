/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_main.c - alloyctl: the list of its commands.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_commands.h"

/* In the order of the help; a group comes before its commands. */
/* clang-format off */
static const struct ctl_command *const commands[] = {
    &ctl_status_command,
    &ctl_top_command,
    &ctl_letters_group,
    &ctl_letters_list_command,
    &ctl_letters_show_command,
    &ctl_replay_command,
    &ctl_bury_command,
    &ctl_journal_group,
    &ctl_journal_inspect_command,
    &ctl_journal_verify_command,
    &ctl_export_command,
    &ctl_drop_command,
    &ctl_adopt_command,
    &ctl_key_group,
    &ctl_key_add_command,
    &ctl_key_list_command,
    &ctl_key_remove_command,
    &ctl_table_command,
    &ctl_doctor_command,
    &ctl_prove_command,
};
/* clang-format on */

int main(int argc, char **argv)
{
    return ctl_dispatch(commands, ARRAY_LEN(commands), argc, argv);
}
